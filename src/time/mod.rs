//! Timeouts of a client.

pub mod client_timeouts;
pub(crate) mod deadlines;
pub(crate) mod draining;
mod expiry;
pub(crate) mod request_heads;
pub(crate) mod timed_stream;
