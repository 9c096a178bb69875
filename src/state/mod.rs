//! The state that handlers use: the configuration in effect, listeners, upstreams, and the connection of a client.

pub(crate) mod client_address;
pub mod client_connection;
pub mod cluster_access;
pub(crate) mod connection_trust;
pub(crate) mod listener_rules;
pub(crate) mod port_protocol;
pub mod route_scope;
pub mod shared;
pub mod upstreams;
