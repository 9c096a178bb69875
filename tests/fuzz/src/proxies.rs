//! Statements of proxies about their clients.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use nodegate::testing::net::host_names;
use nodegate::testing::net::{encode_header, parse_client};
use nodegate::testing::net::{trusted_client_address, untrusted_client_address};

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: &str = "192.0.2.7";

/// A whole PROXY header: one that nodegate writes for its client names the same client.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let Ok(Some(told)) = parse_client(bytes) else { return };
    for cut in 0..bytes.len() {
        assert!(parse_client(&bytes[..cut]).is_err(), "half of it says something");
    }
    let own = encode_header(told, SocketAddr::from(([10, 0, 0, 2], 443)));
    let again = parse_client(&own).unwrap().unwrap();
    assert_eq!((again.ip().to_canonical(), again.port()), (told.ip().to_canonical(), told.port()));
}

/// Lines of a header, as a client has sent them. A proxy that adds the client's address to any such lines is read
/// correctly, be it in a separate line or behind the last one.
pub(crate) fn real_ip(bytes: &[u8]) {
    forwarded_host(bytes);
    for (name, added) in
        [("x-forwarded-for", CLIENT.to_owned()), ("forwarded", format!("for={CLIENT};proto=https"))]
    {
        let name = HeaderName::from_static(name);
        let lines = || bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut own_line = lines();
        own_line.push(added.clone().into_bytes());
        let mut appended = lines();
        if let Some(last) = appended.last_mut() {
            last.extend_from_slice(b", ");
            last.extend_from_slice(added.as_bytes());
        }
        let mut further = own_line.clone();
        further.push(added.replace(CLIENT, "10.9.9.9").into_bytes());
        for lines in [own_line, appended, further] {
            let Some(headers) = headers(&name, &lines) else { continue };
            let found = trusted_client_address(&name, &headers, PROXY, |address| {
                address.to_string().starts_with("10.")
            });
            assert_eq!(found.to_string(), CLIENT, "{lines:?}");
        }
        if let Some(headers) = headers(&name, &lines()) {
            let alone = untrusted_client_address(&name, &headers);
            let trusting_nobody = trusted_client_address(&name, &headers, PROXY, |_| false);
            assert!(lines().len() > 1 || alone.is_none_or(|alone| alone == trusting_nobody), "{alone:?}");
        }
    }
}

/// The same for the name of the host: what the proxy adds is named, and nothing that the client has sent.
fn forwarded_host(bytes: &[u8]) {
    let lines = || bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    for (name, added) in
        [("x-forwarded-host", "front.example"), ("forwarded", "for=192.0.2.7;host=front.example")]
    {
        let name = HeaderName::from_static(name);
        let mut lines = lines();
        lines.push(added.as_bytes().to_vec());
        let Some(headers) = headers(&name, &lines) else { continue };
        let hosts: Vec<_> = host_names(&headers, |_| false).iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["front.example"], "{lines:?}");
    }
}

/// `None` where a line could not have come.
fn headers(name: &HeaderName, lines: &[Vec<u8>]) -> Option<HeaderMap> {
    let value = |line: &Vec<u8>| HeaderValue::from_bytes(line).ok();
    lines.iter().map(|line| Some((name.clone(), value(line)?))).collect()
}
