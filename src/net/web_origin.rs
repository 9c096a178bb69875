//! Origins of web pages (RFC 6454) and the hosts of requests, parsed for comparison.

use std::fmt;
use std::net::Ipv6Addr;

/// Host and port of a `Host` header, an origin, or a proxy's header. The host is in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostPort {
    host: String,
    port: Option<u16>,
}

impl HostPort {
    /// `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (host, rest) = if let Some(behind) = text.strip_prefix('[') {
            let (address, rest) = behind.split_once(']')?;
            (format!("[{}]", address.parse::<Ipv6Addr>().ok()?), rest)
        } else {
            let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            (host.to_ascii_lowercase(), rest)
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(&byte);
        let is_host = host.starts_with('[') || (!host.is_empty() && host.bytes().all(is_plain));
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            None => return None,
            Some("") => None,
            Some(port) => Some(parse_port(port)?),
        };
        is_host.then_some(Self { host, port })
    }

    /// In lower case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> Option<u16> {
        self.port
    }

    #[must_use]
    pub fn with_port(self, port: u16) -> Self {
        Self { port: Some(port), ..self }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Digits only: `u16::from_str` accepts a sign as well.
pub fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Schemes that HTTP and websocket clients write into `Origin`, the scheme of a browser for the same, and the default
/// port.
const SCHEMES: [(&str, &str, u16); 4] =
    [("https", "https", 443), ("http", "http", 80), ("wss", "https", 443), ("ws", "http", 80)];
/// The port of a `Host` without one: nodegate, or the front before it, speaks TLS.
const TLS_PORT: u16 = 443;

/// The origin in an `Origin` header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebOrigin {
    scheme: &'static str,
    scheme_port: u16,
    place: HostPort,
}

impl WebOrigin {
    /// `SCHEME://HOST` or `SCHEME://HOST:PORT`; `null` is no origin.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let known = SCHEMES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(scheme));
        let (_, scheme, scheme_port) = *known?;
        Some(Self { scheme, scheme_port, place: HostPort::parse(rest)? })
    }

    /// Whether it is the origin of `host`. The scheme is ignored, because clients that are no browsers write `http`
    /// or `wss` with TLS. A missing port is the scheme's default, on either side.
    pub fn is_at(&self, host: &HostPort) -> bool {
        let port = self.place.port.unwrap_or(self.scheme_port);
        let same_port = match host.port {
            Some(known) => known == port,
            None => port == self.scheme_port || port == TLS_PORT,
        };
        self.place.host == host.host && same_port
    }

    /// The form that a browser would write.
    pub fn canonical(&self) -> String {
        let port = self.place.port.filter(|port| *port != self.scheme_port);
        let place = HostPort { host: self.place.host.clone(), port };
        format!("{}://{place}", self.scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_by_host_and_port() {
        let cases = [
            ("node1:8006", "https://node1:8006", true),
            ("node1:8006", "HTTPS://NODE1:8006", true),
            ("NODE1:8006", "https://node1:8006", true),
            ("node1:8006", "http://node1:8006", true),
            ("node1:8006", "wss://node1:8006", true),
            ("node1:8006", "ws://node1:8006", true),
            ("node1", "https://node1:443", true),
            ("node1:443", "https://node1", true),
            ("node1:443", "wss://node1", true),
            ("node1", "http://node1", true),
            ("node1", "http://node1:443", true),
            ("node1:80", "http://node1", true),
            ("node1:", "https://node1", true),
            ("[fe80::1]:8006", "https://[FE80:0::1]:8006", true),
            ("node1:443", "http://node1", false),
            ("node1", "https://node1:80", false),
            ("node1", "https://node1:8443", false),
            ("node1:8006", "https://node1", false),
            ("node1:8006", "https://node1:8007", false),
            ("node1:8006", "https://node2:8006", false),
            ("node1:8006", "ftp://node1:8006", false),
            ("node1:8006", "https://node1:8006.example.com", false),
            ("node1:8006", "https://node1:8006@example.com", false),
            ("node1:8006", "https://x@node1:8006", false),
            ("node1:8006", "https://node1:8006/", false),
            ("node1", "https://node1:99999", false),
            ("node1", "https://node1:+443", false),
            ("node1:8006", "null", false),
            ("node1:8006", "https://", false),
            ("node1:8006", "node1:8006", false),
            ("[fe80::1]:8006", "https://[fe80::2]:8006", false),
        ];
        for (host, origin, same) in cases {
            let host = HostPort::parse(host).unwrap();
            let result = WebOrigin::parse(origin).is_some_and(|origin| origin.is_at(&host));
            assert_eq!(result, same, "{origin} on {host}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in ["", ":8006", "a b", "a/b", "a@b", "a,b", "h\u{e9}", "[::1", "[x]:1", "[::1]8", "a:1:2"] {
            assert_eq!(HostPort::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_canonical_form_is_that_of_browsers() {
        for (origin, canonical) in [
            ("wss://Node1:443", "https://node1"),
            ("ws://node1:80", "http://node1"),
            ("https://[::0001]:8006", "https://[::1]:8006"),
        ] {
            assert_eq!(WebOrigin::parse(origin).unwrap().canonical(), canonical);
        }
    }
}
