//! The names that clients use for the proxies in front: `X-Forwarded-Host` with `X-Forwarded-Port`, and the `host` of
//! `Forwarded` (RFC 7239 section 5.3).
//!
//! Each proxy appends the name that its client used, as it does with the client's address. So the number of trusted
//! proxies limits the number of entries that count.

use std::net::IpAddr;

use http::header::HOST;
use http::{HeaderMap, HeaderName};

use crate::net::forwarded;
use crate::net::web_origin::{HostPort, parse_port};

// Constants: a `const` that holds `Bytes` would be made again at each use.
static FORWARDED: HeaderName = http::header::FORWARDED;
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Further proxies in a row are ignored.
const MAX_PROXIES: usize = 8;

/// The names that the trusted peer of a connection, and trusted proxies before it, report.
pub fn host_names(headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> Vec<HostPort> {
    let trusted = |header| forwarded::trusted_entries(header, headers, &is_trusted).min(MAX_PROXIES);
    let port = forwarded::entries(&X_FORWARDED_PORT, headers).next().and_then(parse_port);
    let complete = |place: HostPort| match port {
        Some(port) if place.port().is_none() => place.with_port(port),
        Some(_) | None => place,
    };
    let hosts = forwarded::entries(&X_FORWARDED_HOST, headers).take(trusted(&X_FORWARDED_FOR));
    let mut named: Vec<_> = hosts.filter_map(HostPort::parse).map(complete).collect();
    if let (Some(port), Some(host)) = (port, headers.get(HOST)) {
        // A front that passes on the client's `Host` without the port reports the port separately.
        let host = host.to_str().ok().and_then(HostPort::parse);
        named.extend(host.map(|host| host.with_port(port)));
    }
    let elements = forwarded::entries(&FORWARDED, headers).take(trusted(&FORWARDED));
    let hosts = elements.filter_map(|element| forwarded::forwarded_parameter(element, "host"));
    named.extend(hosts.filter_map(HostPort::parse));
    named
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    type Line = (&'static str, &'static str);

    /// The names reported by a trusted peer; `10.0.0.0/8` is trusted as well.
    fn reported_names(lines: &[(&str, &str)]) -> Vec<String> {
        let line = |(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let headers: HeaderMap = lines.iter().map(line).collect();
        let named = host_names(&headers, |address| address.to_string().starts_with("10."));
        named.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_nearest_trusted_proxies_name_hosts() {
        let (host, port, client) = ("X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-For");
        let cases: &[(&[Line], &[&str])] = &[
            (&[], &[]),
            (&[(host, "pve.example.com")], &["pve.example.com"]),
            (&[(host, "PVE.example.com:8443")], &["pve.example.com:8443"]),
            (&[(host, "pve.example.com"), (port, "8443")], &["pve.example.com:8443"]),
            (&[(host, "pve.example.com:1"), (port, "8443")], &["pve.example.com:1"]),
            (&[(host, "pve.example.com"), (port, "x")], &["pve.example.com"]),
            (&[("Host", "pve.example.com"), (port, "8443")], &["pve.example.com:8443"]),
            (&[("Host", "a:8006"), (host, "b"), (port, "443")], &["b:443", "a:443"]),
            // An entry left of the nearest one may be the client's.
            (&[(host, "evil, pve.example.com")], &["pve.example.com"]),
            (&[(host, "evil"), (host, "pve.example.com")], &["pve.example.com"]),
            (&[(host, "evil, pve.example.com"), (client, "192.0.2.7")], &["pve.example.com"]),
            // A trusted proxy before the nearest one adds one more trusted entry.
            (&[(host, "evil, pve, inner"), (client, "192.0.2.7, 10.0.0.2")], &["inner", "pve"]),
            (&[(host, "a b")], &[]),
            (&[("Forwarded", "for=192.0.2.7;host=pve.example.com;proto=https")], &["pve.example.com"]),
            (&[("Forwarded", "For=192.0.2.7;Host=\"pve.example.com:8443\"")], &["pve.example.com:8443"]),
            (&[("Forwarded", "host=evil, for=192.0.2.7;host=pve")], &["pve"]),
            (&[("Forwarded", "host=\"evil, for=192.0.2.7;host=pve")], &["pve"]),
            (&[("Forwarded", "for=1.2.3.4;host=pve, for=10.0.0.2;host=inner")], &["inner", "pve"]),
            (&[("Forwarded", "host=a;host=b")], &[]),
            (&[("Forwarded", "for=192.0.2.7")], &[]),
        ];
        for (lines, expected) in cases {
            assert_eq!(reported_names(lines), *expected, "{lines:?}");
        }
        let many = [(host, "a,".repeat(100)), (client, "10.0.0.1,".repeat(100))];
        let many: Vec<_> = many.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(reported_names(&many).len(), MAX_PROXIES);
    }
}
