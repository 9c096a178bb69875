//! Where tunnels may lead to, and by which doors viewers come.

use std::ops::RangeInclusive;

#[derive(Clone, Debug)]
pub struct TunnelSettings {
    /// of the other nodes
    pub peer_port: u16,
    pub ports: RangeInclusive<u16>,
    /// whether the port for HTTPS takes CONNECT as well
    pub on_https: bool,
}
