//! Addresses: ranges, access lists, hosts, and the headers that name the client behind a proxy.

pub mod acl;
pub mod allowed_hosts;
pub mod forwarded;
pub mod forwarded_host;
pub mod ip_range;
pub mod proxy_protocol;
pub mod web_origin;
