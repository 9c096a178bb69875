//! The process at work: worker threads that accept and serve, and the main thread that looks after them.

mod accept;
mod config_loader;
mod pending_reload;
mod supervisor;
mod timers;
mod upgrade;
mod worker;
mod worker_pool;

use std::io;

pub use self::accept::Arrived;
pub use self::worker::{Worker, WorkerThread};
pub use crate::admin::handle::{Confirmed, Door, HowToReload, Reloaded, Summary};
pub use crate::server::config_loader::{Loaded, Source};
pub use crate::server::upgrade::{Met, Predecessor};

use self::supervisor::Supervisor;
use crate::os::executable::Binary;
use crate::os::listener::Listening;
use crate::state::shared::Lasting;

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
    let runtime = crate::server::worker_pool::runtime()?;
    let ended = runtime.block_on(async {
        let (door, questions) = Door::new();
        Supervisor::start(start, door)?.run(questions).await
    });
    runtime.shutdown_timeout(worker::LEFT_BEHIND);
    ended
}
