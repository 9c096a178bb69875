//! The process at work: worker threads that accept and serve, and the main thread that looks after them.

mod accept;
mod door;
mod loading;
mod source;
mod succession;
mod supervisor;
mod timers;
mod worker;
mod workers;

use std::io;

pub use self::accept::Arrived;
pub use self::door::{Confirmed, Door, HowToReload, Reloaded, Summary};
pub use self::source::{Loaded, Source};
pub use self::succession::{Met, Predecessor};
pub use self::worker::{Worker, WorkerThread};

use self::supervisor::Supervisor;
use crate::engine::Lasting;
use crate::listener::Listening;
use crate::process::binary::Binary;

/// What a process starts to serve with.
pub struct Start {
    pub source: Source,
    pub binary: Binary,
    pub loaded: Loaded,
    pub lasting: Lasting,
    pub listening: Listening,
    /// whose place it takes, if it was started for that
    pub predecessor: Option<Predecessor>,
}

/// Serves until SIGTERM or SIGINT, or until a new binary does, then drains.
pub fn run(start: Start) -> io::Result<()> {
    let runtime = workers::runtime()?;
    let ended = runtime.block_on(async {
        let (door, questions) = Door::new();
        Supervisor::start(start, door)?.run(questions).await
    });
    runtime.shutdown_timeout(worker::LEFT_BEHIND);
    ended
}
