//! The upgrade of the binary: the old process starts the new one with the listening sockets, and drains.
//!
//! ```text
//! predecessor                                  successor (its stdin is the other end)
//!   handoff, with the sockets       ───────►   loads, binds changed addresses, accepts
//!   [sockets of other listeners]    ◄──────►   [doors]
//!   [file of worker slots]          ◄──────►   [slots]
//!   drains                          ◄───────   ready
//!   MAINPID to systemd, go          ───────►   pid file, READY to systemd
//!   may end                         ◄───────   serves, once its control socket is open
//!   opens its log, or ends          ◄───────   reopen, stop
//! ```

mod handoff;
mod new_process;
mod old_process;

pub(super) use crate::server::upgrade::handoff::HandoffState;
pub use crate::server::upgrade::new_process::{OldProcess, ReceivedHandoff};
pub(super) use crate::server::upgrade::old_process::{HandedSockets, NewProcess, UpgradeMessage};

/// Set for a process whose stdin leads to its predecessor.
const PREDECESSOR_VARIABLE: &str = "SUCCESSOR_OF";

const READY: &str = "ready\n";
/// Requests the sockets of the other listeners; as long as `READY`, which it replaces.
const LISTENERS: &str = "doors\n";
/// Requests the file of worker slots; as long as `READY` too.
const WORKER_SLOTS: &str = "slots\n";
const GO: &str = "go\n";
const SERVES: &str = "serves\n";
const REOPEN: &str = "reopen\n";
const STOP: &str = "stop\n";
