//! Settings of tunnels and of the doors to them.

use super::{SettingsReader, port_range};
use crate::config::settings::TunnelSettings;
use crate::config::settings::tunnel::proxy_url;

impl SettingsReader<'_> {
    pub(super) fn tunnel(&mut self) -> TunnelSettings {
        TunnelSettings {
            peer_port: self.number("tunnel.peer_port"),
            ports: self.parsed("tunnel.ports", port_range).unwrap_or(61_000..=61_999),
            connect_on_https: self.truth("tunnel.connect_on_https"),
            advertised_proxy: self.optional("tunnel.advertised_proxy", |text, _| proxy_url(text)),
            peer_tls: self.truth("tunnel.peer_tls"),
        }
    }
}
