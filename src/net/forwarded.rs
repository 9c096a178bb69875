//! The client behind proxies, by their headers: one address, a list (`X-Forwarded-For`), or `Forwarded` (RFC 7239).
//!
//! Each proxy appends the address that it saw. So a list is read from the right, through the trusted proxies. Any
//! client can invent the entries left of the first other address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderName};

/// The untrusted address of a header: one line with one address, or nothing.
pub fn untrusted_client_address(header: &HeaderName, headers: &HeaderMap) -> Option<IpAddr> {
    let is_forwarded = is_forwarded(header);
    let mut elements = ReverseParts::elements(headers.get(header)?.as_bytes(), is_forwarded);
    let only = elements.next()?;
    if elements.next().is_some() { None } else { address(only, is_forwarded) }
}

/// The client address that a trusted `peer` reports: that of the nearest trusted proxy which names one, or `peer`
/// itself. Lines of the same name are one list (RFC 9110 section 5.3).
pub fn trusted_client_address(
    header: &HeaderName,
    headers: &HeaderMap,
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let is_forwarded = is_forwarded(header);
    let mut nearest = peer;
    for line in headers.get_all(header).iter().rev() {
        for element in ReverseParts::elements(line.as_bytes(), is_forwarded) {
            let Some(named) = address(element, is_forwarded) else { return nearest };
            if !is_trusted(named) {
                return named;
            }
            nearest = named;
        }
    }
    nearest
}

/// The entries of a list that proxies append to, the nearest proxy's first, as far as they are text.
pub fn entries<'h>(header: &HeaderName, headers: &'h HeaderMap) -> impl Iterator<Item = &'h str> + use<'h> {
    let is_forwarded = is_forwarded(header);
    let lines = headers.get_all(header).iter().rev();
    let entries = lines.flat_map(move |line| ReverseParts::elements(line.as_bytes(), is_forwarded));
    entries.map_while(|entry| std::str::from_utf8(entry).ok())
}

/// The number of entries that a trusted peer and the trusted proxies before it appended: at least the peer's.
pub fn trusted_entries(
    header: &HeaderName,
    headers: &HeaderMap,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> usize {
    let is_forwarded = is_forwarded(header);
    let named = entries(header, headers).map_while(|entry| address(entry.as_bytes(), is_forwarded));
    1 + named.take_while(|address| is_trusted(*address)).count()
}

fn is_forwarded(header: &HeaderName) -> bool {
    *header == http::header::FORWARDED
}

/// Parts of a text from right to left, without empty ones. A separator within quotes ends no part. Quotes are counted
/// from the right as well, and an escaped one does not count (RFC 9110 section 5.6.4). So a client cannot spoil the
/// entry of a proxy with an open quote or with bytes that are no text.
struct ReverseParts<'t> {
    separator: u8,
    has_quotes: bool,
    rest: &'t [u8],
}

impl<'t> ReverseParts<'t> {
    fn elements(list: &'t [u8], is_forwarded: bool) -> Self {
        Self { separator: b',', has_quotes: is_forwarded, rest: list }
    }

    fn last_separator(&self) -> Option<usize> {
        let mut quoted = false;
        self.rest.iter().enumerate().rev().find_map(|(at, byte)| {
            quoted ^= *byte == b'"' && self.has_quotes && !is_escaped(self.rest.get(..at)?);
            (*byte == self.separator && !quoted).then_some(at)
        })
    }
}

/// Whether the next byte is the second half of a quoted pair.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

impl<'t> Iterator for ReverseParts<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        while !self.rest.is_empty() {
            let (rest, part) = match self.last_separator() {
                Some(at) => (self.rest.get(..at)?, self.rest.get(at + 1..)?),
                None => (self.rest.get(..0)?, self.rest),
            };
            self.rest = rest;
            let part = part.trim_ascii();
            if !part.is_empty() {
                return Some(part);
            }
        }
        None
    }
}

fn address(element: &[u8], is_forwarded: bool) -> Option<IpAddr> {
    let element = std::str::from_utf8(element).ok()?;
    let node = if is_forwarded { forwarded_parameter(element, "for")? } else { element };
    node_address(node).map(|address| address.to_canonical())
}

/// The value of a parameter that an element has once, such as `for`, without its quotes.
pub fn forwarded_parameter<'e>(element: &'e str, name: &str) -> Option<&'e str> {
    let pairs = ReverseParts { separator: b';', has_quotes: true, rest: element.as_bytes() };
    let pairs = pairs.filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
    let mut values = pairs.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let value = values.next().filter(|_| values.next().is_none())?;
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`. A port may be hidden (`:_x`);
/// `unknown` and hidden names are no addresses.
fn node_address(node: &str) -> Option<IpAddr> {
    if let Some(rest) = node.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_end = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<Ipv6Addr>().ok().filter(|_| is_end).map(IpAddr::V6);
    }
    if let Ok(address) = node.parse() {
        return Some(address);
    }
    let (address, port) = node.split_once(':')?;
    address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port)).map(IpAddr::V4)
}

fn is_port(text: &str) -> bool {
    let is_hidden = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(is_hidden),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    fn headers(name: &str, lines: &[&str]) -> (HeaderName, HeaderMap) {
        let name: HeaderName = name.parse().unwrap();
        let lines =
            lines.iter().map(|line| (name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap()));
        (name.clone(), lines.collect())
    }

    /// The client by the headers of a peer in `10.0.0.0/8`, which is trusted.
    fn client(name: &str, lines: &[&str]) -> String {
        let (name, headers) = headers(name, lines);
        let is_trusted = |address: IpAddr| address.to_string().starts_with("10.");
        trusted_client_address(&name, &headers, PROXY, is_trusted).to_string()
    }

    #[test]
    fn lists_resolve_rightmost_through_trusted_proxies() {
        let cases: &[(&[&str], &str)] = &[
            (&["192.0.2.7"], "192.0.2.7"),
            (&["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
            (&["6.6.6.6, 192.0.2.7, 10.0.0.2,10.0.0.3"], "192.0.2.7"),
            (&["6.6.6.6", "192.0.2.7 , 10.0.0.2"], "192.0.2.7"),
            (&["192.0.2.7", "10.0.0.2", "", " , "], "192.0.2.7"),
            (&["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
            (&["6.6.6.6, rubbish, 10.0.0.2"], "10.0.0.2"),
            (&["6.6.6.6, unknown"], "10.0.0.1"),
            (&["192.0.2.7, \"", "10.0.0.2"], "10.0.0.2"),
            (&["192.0.2.7:1234"], "192.0.2.7"),
            (&["[2001:db8::1]:443, 10.0.0.2"], "2001:db8::1"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
            (&["\u{fc}\", 192.0.2.7"], "192.0.2.7"),
            (&["192.0.2.7, \u{fc}"], "10.0.0.1"),
            (&["fe80::1%eth0"], "10.0.0.1"),
            (&[""], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ];
        for (lines, expected) in cases {
            assert_eq!(client("x-forwarded-for", lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_the_standard_writes_it() {
        let cases: &[(&[&str], &str)] = &[
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60"),
            (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (&["for=192.0.2.43, for=\"10.0.0.4:_x\""], "192.0.2.43"),
            (&["for=6.6.6.6, for=192.0.2.43;by=\"a,b\""], "192.0.2.43"),
            (&["for=6.6.6.6;x=\", for=192.0.2.43"], "192.0.2.43"),
            (&["for=\"\u{fc}, for=192.0.2.43"], "192.0.2.43"),
            (&["for=6.6.6.6", "by=10.0.0.3;for=192.0.2.43"], "192.0.2.43"),
            (&["for=6.6.6.6, for=unknown"], "10.0.0.1"),
            (&["for=6.6.6.6, for=_hidden, for=10.0.0.7"], "10.0.0.7"),
            (&["for=6.6.6.6, proto=https"], "10.0.0.1"),
            (&["for=192.0.2.1;for=192.0.2.2"], "10.0.0.1"),
            // The client's name for the host may contain other parameters.
            (&["for=192.0.2.43;host=\"a;for=6.6.6.6\""], "192.0.2.43"),
            (&["for=6.6.6.6;x=\", for=192.0.2.43;host=\"a;for=6.6.6.6\""], "192.0.2.43"),
            (&["for=192.0.2.43;host=\"a\\\",for=6.6.6.6;x=\\\"\""], "192.0.2.43"),
            (&["for=192.0.2.43;host=\"a\\\\\", for=\"192.0.2.44\""], "192.0.2.44"),
            (&["192.0.2.1"], "10.0.0.1"),
            (&["for=\"192.0.2.1"], "10.0.0.1"),
            (&["for=\"[2001:db8::1]x\""], "10.0.0.1"),
        ];
        for (lines, expected) in cases {
            assert_eq!(client("forwarded", lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn without_a_list_one_address_is_accepted() {
        for (line, expected) in
            [("192.0.2.7", Some("192.0.2.7")), ("192.0.2.7, 192.0.2.8", None), ("rubbish", None), ("", None)]
        {
            let (name, headers) = headers("x-real-ip", &[line]);
            assert_eq!(
                untrusted_client_address(&name, &headers).map(|it| it.to_string()).as_deref(),
                expected,
                "{line}"
            );
        }
    }
}
