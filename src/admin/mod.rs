//! The control socket, metrics and probes.

pub mod client;
pub(crate) mod handle;
pub mod metrics_server;
pub mod protocol;
pub(crate) mod socket;
pub(crate) mod upstream_report;
