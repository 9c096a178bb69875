//! The serving process: worker threads that accept and serve, and the main thread that supervises them.

mod accept;
mod config_loader;
mod pending_reload;
mod supervisor;
mod timers;
mod upgrade;
mod worker;
mod worker_pool;

use std::io;

pub use crate::server::config_loader::{ConfigLoader, LoadedConfig};
pub use crate::server::upgrade::{OldProcess, ReceivedHandoff};

use self::supervisor::Supervisor;
use crate::admin::handle::SupervisorHandle;
use crate::os::executable::ExecutableFile;
use crate::os::listener::ListenerSet;
use crate::state::shared::PersistentState;

/// The input of a process that starts to serve.
pub struct StartState {
    pub source: ConfigLoader,
    pub binary: ExecutableFile,
    pub loaded: LoadedConfig,
    pub lasting: PersistentState,
    pub listening: ListenerSet,
    /// the process that it takes over from, if any
    pub predecessor: Option<OldProcess>,
}

/// Serves until SIGTERM, SIGINT or the takeover by a new binary, then drains.
pub fn run(start: StartState) -> io::Result<()> {
    let runtime = crate::server::worker_pool::runtime()?;
    let ended = runtime.block_on(async {
        let (handle, commands) = SupervisorHandle::new();
        Supervisor::start(start, handle)?.run(commands).await
    });
    runtime.shutdown_timeout(worker::FILE_TIMEOUT);
    ended
}
