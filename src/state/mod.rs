//! What handlers may see: settings in effect, listeners, clients.

pub(crate) mod client_address;
pub mod cluster_access;
pub(crate) mod listener_rules;
pub(crate) mod port_protocol;
pub mod route_scope;
pub mod shared;
