//! Where tunnels may lead to, and by which doors viewers come.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::listen::is_host_name;

#[derive(Clone, Debug)]
pub struct TunnelSettings {
    /// of the other nodes
    pub peer_port: u16,
    pub ports: RangeInclusive<u16>,
    /// whether the port for HTTPS takes CONNECT as well
    pub connect_on_https: bool,
    /// the proxy that viewers are told to come by, as a URL; `None`: whatever the daemon says
    pub advertised_proxy: Option<String>,
    /// whether other nodes are asked over TLS first
    pub peer_tls: bool,
}

/// `NAME:PORT`, `http://NAME:PORT` or `https://NAME:PORT` as a URL; an IPv6 address stands in brackets.
pub(super) fn proxy_url(text: &str) -> Result<String, String> {
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
