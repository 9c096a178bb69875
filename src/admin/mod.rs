//! The control socket, metrics, probes and the status page.

pub mod client;
mod event_stream;
pub(crate) mod handle;
pub mod metrics_server;
mod monitoring_request;
pub mod protocol;
pub(crate) mod socket;
mod status_page;
pub(crate) mod status_reporter;
pub(crate) mod upstream_report;
