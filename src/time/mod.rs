//! Timeouts of a client.

pub mod client_timeouts;
mod expiry;
pub mod lingering_close;
pub(crate) mod request_heads;
pub(crate) mod timed_stream;
