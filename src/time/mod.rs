//! Deadlines of a client.

pub mod client_timeouts;
pub(crate) mod deadlines;
pub(crate) mod draining;
pub(crate) mod request_heads;
pub(crate) mod timed_stream;
