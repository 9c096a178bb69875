//! The process at work: worker threads that accept and serve, and the main thread that looks after them.

mod accept;
mod door;
mod source;
mod supervisor;
mod worker;
mod workers;

use std::io;

pub use self::door::{Door, Reloaded, Summary};
pub use self::source::{Loaded, Source};
pub use self::worker::{Worker, WorkerThread};

use self::supervisor::Supervisor;
use crate::engine::Lasting;
use crate::listener::Listening;

/// What a process starts to serve with.
pub struct Start {
    pub source: Source,
    pub loaded: Loaded,
    pub lasting: Lasting,
    pub listening: Listening,
}

/// Serves until SIGTERM or SIGINT, then drains.
pub fn run(start: Start) -> io::Result<()> {
    let runtime = workers::runtime()?;
    let ended = runtime.block_on(async {
        let (door, questions) = Door::new();
        Supervisor::start(start, door)?.run(questions).await
    });
    runtime.shutdown_timeout(worker::LEFT_BEHIND);
    ended
}
