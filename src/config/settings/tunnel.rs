//! Settings of SPICE tunnels.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::Row;
use super::listen::is_host_name;
use crate::config::setting::PORT;
use crate::config::setting::ValueKind::{Bool, Text};

pub(super) const ROWS: &[Row] = &[
    Row::new("tunnel.peer_port", "3128", PORT, |s, v| v.number(&mut s.tunnel.peer_port))
        .doc("the SPICE port of the other nodes"),
    Row::new("tunnel.ports", "61000-61999", Text, |s, v| v.parsed(&mut s.tunnel.ports, port_range))
        .doc("ports to which a SPICE ticket may lead"),
    Row::new("tunnel.connect_on_https", "false", Bool, |s, v| v.truth(&mut s.tunnel.connect_on_https))
        .renamed_from("tunnel.on_https")
        .doc("accepts `CONNECT` of SPICE viewers on the HTTPS port too"),
    Row::new("tunnel.advertised_proxy", "", Text, |s, v| {
        v.optional(&mut s.tunnel.advertised_proxy, proxy_url)
    })
    .renamed_from("tunnel.public")
    .doc("the proxy address that SPICE viewers get"),
    Row::new("tunnel.peer_tls", "false", Bool, |s, v| v.truth(&mut s.tunnel.peer_tls))
        .doc("requests tunnels from other nodes over TLS"),
];

#[derive(Clone, Debug)]
pub struct TunnelSettings {
    /// of the other nodes
    pub peer_port: u16,
    pub ports: RangeInclusive<u16>,
    /// whether the HTTPS port accepts CONNECT as well
    pub connect_on_https: bool,
    /// the URL of the proxy that viewers get; `None` leaves the daemon's
    pub advertised_proxy: Option<String>,
    /// whether nodegate connects to other nodes over TLS first
    pub peer_tls: bool,
}

/// A range has no default of its own.
impl Default for TunnelSettings {
    fn default() -> Self {
        let ports = 0..=0;
        Self { peer_port: 0, ports, connect_on_https: false, advertised_proxy: None, peer_tls: false }
    }
}

/// `FIRST-LAST`.
pub fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let parsed = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
    match parsed {
        Some((first, last)) if first <= last && first > 0 => Ok(first..=last),
        _ => Err(format!("must be FIRST-LAST, such as 61000-61999, not '{text}'")),
    }
}

/// `NAME:PORT`, `http://NAME:PORT` or `https://NAME:PORT` as a URL; an IPv6 address stands in brackets.
fn proxy_url(text: &str) -> Result<String, String> {
    let (scheme, place) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), place)) => (scheme, place),
        Some((scheme, _)) => {
            return Err(format!("'{text}': viewers know http:// and https://, not {scheme}://"));
        }
        None => ("http", text),
    };
    let is_place = place.rsplit_once(':').is_some_and(|(host, port)| {
        let port =
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
        port && is_host(host)
    });
    if is_place {
        Ok(format!("{scheme}://{place}"))
    } else {
        Err(format!("'{text}': write NAME:PORT, http://NAME:PORT or https://NAME:PORT"))
    }
}

fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => text.parse::<Ipv4Addr>().is_ok() || is_host_name(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_has_scheme_host_and_port() {
        for (text, url) in [
            ("spice.example.com:443", "http://spice.example.com:443"),
            ("https://spice.example.com:443", "https://spice.example.com:443"),
            ("http://192.0.2.1:3128", "http://192.0.2.1:3128"),
            ("https://[2001:db8::1]:8006", "https://[2001:db8::1]:8006"),
        ] {
            assert_eq!(proxy_url(text).as_deref(), Ok(url), "{text}");
        }
        for wrong in [
            "spice.example.com",
            "https://spice.example.com",
            "https://spice.example.com:443/",
            "https://user@spice.example.com:443",
            "socks5://spice.example.com:1080",
            "spice.example.com:0",
            "spice.example.com:+1",
            "spice.example.com:65536",
            "2001:db8::1:8006",
            "a b:1",
            "a\"b:1",
            ":1",
            "https://:1",
        ] {
            assert!(proxy_url(wrong).is_err(), "{wrong}");
        }
    }
}
