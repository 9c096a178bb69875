//! Connections to the daemons of this machine and to the other nodes.

pub mod body_decoder;
pub mod certificate_pins;
pub mod client;
pub(crate) mod connection;
mod destination;
pub(crate) mod error;
pub mod local;
pub mod loopback;
pub mod nodes;
pub mod peer;
pub(crate) mod pool;
pub mod request;
pub(crate) mod response_body;
pub mod response_head;
pub mod scheduler;
pub mod schedulers;
pub(crate) mod write_batching;
