//! A new binary takes over: it is started with the listening sockets, and the process before it drains.
//!
//! ```text
//! predecessor                                  successor (its stdin is the other end)
//!   inheritance, with the sockets   ───────►   loads, binds what has changed, accepts
//!   [sockets of other listeners]    ◄──────►   [doors]
//!   retires                         ◄───────   ready
//!   MAINPID to systemd, go          ───────►   pid file, READY to systemd
//!   may end                         ◄───────   serves, once it can be asked in its place
//!   opens its log, or ends          ◄───────   reopen, stop
//! ```

mod handoff;
mod new_process;
mod old_process;

pub(super) use crate::server::upgrade::handoff::HandoffState;
pub use crate::server::upgrade::new_process::{OldProcess, ReceivedHandoff};
pub(super) use crate::server::upgrade::old_process::{HandedSockets, NewProcess, UpgradeMessage};

/// Set for a process whose stdin leads to its predecessor.
const VARIABLE: &str = "SUCCESSOR_OF";

const READY: &str = "ready\n";
/// Asks for the sockets of the other listeners; as long as `READY`, in whose place it comes.
const DOORS: &str = "doors\n";
const GO: &str = "go\n";
const SERVES: &str = "serves\n";
const REOPEN: &str = "reopen\n";
const STOP: &str = "stop\n";
