//! The PROXY protocol (versions 1 and 2, haproxy.org/download/2.8/doc/proxy-protocol.txt): with a header at the
//! beginning of a connection a proxy names its client.
//!
//! Only the header is read, so TLS gets the bytes after it. Additions of version 2 (TLVs, among them a checksum) are
//! skipped, because TCP has its own checksums.

use std::io;
use std::net::{IpAddr, SocketAddr};

use proxy_header::{ParseConfig, Protocol, ProxiedAddress, ProxyHeader};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The beginning of version 2; no shorter than that of version 1.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before those that its length field counts.
const V2_PREFIX_BYTES: usize = SIGNATURE.len() + 4;
/// Bytes of a whole header of version 1, by the specification.
const MAX_V1_BYTES: usize = 107;
/// Limit of the length field of version 2.
const MAX_V2_BYTES: usize = 4096;
/// The command of version 2 for a connection of the proxy itself.
const LOCAL: u8 = 0x20;
/// Bytes of a header that nodegate sends.
const HEADER_BYTES: usize = V2_PREFIX_BYTES + 36;

/// Why a header cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    #[error("the PROXY header is malformed")]
    Malformed,
    #[error("the PROXY header is too long")]
    TooLong,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The client that the peer connects for; `None` for the peer itself (`LOCAL`, `UNKNOWN`) or an unknown client. The
/// caller adds the deadline.
pub async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        read_v2(stream, &mut header).await?;
    } else if header.starts_with(b"PROXY ") {
        read_v1(stream, &mut header).await?;
    } else {
        return Err(ProxyError::Missing);
    }
    parse_client(&header)
}

async fn read_v2(stream: &mut TcpStream, header: &mut Vec<u8>) -> Result<(), ProxyError> {
    append(stream, header, V2_PREFIX_BYTES - SIGNATURE.len()).await?;
    let Some([high, low]) = header.last_chunk() else { return Err(ProxyError::Malformed) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAX_V2_BYTES {
        return Err(ProxyError::TooLong);
    }
    append(stream, header, length).await
}

/// Reads up to the end of the line, and no byte further.
async fn read_v1(stream: &mut TcpStream, header: &mut Vec<u8>) -> Result<(), ProxyError> {
    let mut ahead = [0; MAX_V1_BYTES];
    while !header.ends_with(b"\n") {
        let room = ahead.get_mut(header.len()..).unwrap_or_default();
        if room.is_empty() {
            return Err(ProxyError::TooLong);
        }
        let seen = stream.peek(room).await?;
        let there = room.get(..seen).unwrap_or_default();
        let wanted = there.iter().position(|byte| *byte == b'\n').map_or(seen, |at| at + 1);
        if wanted == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        append(stream, header, wanted).await?;
    }
    Ok(())
}

async fn append(stream: &mut TcpStream, header: &mut Vec<u8>, length: usize) -> Result<(), ProxyError> {
    let start = header.len();
    header.resize(start + length, 0);
    stream.read_exact(header.get_mut(start..).unwrap_or_default()).await?;
    Ok(())
}

/// The client in a whole header.
pub fn parse_client(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    if header.starts_with(SIGNATURE) && header.get(SIGNATURE.len()) == Some(&LOCAL) {
        return Ok(None);
    }
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(header, config) {
        Ok((parsed, length)) if length == header.len() => match parsed.proxied_address() {
            Some(ProxiedAddress { protocol: Protocol::Stream, source, .. }) => Ok(Some(*source)),
            Some(_) => Err(ProxyError::Malformed),
            None => Ok(None),
        },
        Ok(_) | Err(_) => Err(ProxyError::Malformed),
    }
}

/// A header of version 2 with source and destination. Addresses of two families are both written as IPv6.
pub fn encode_header(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let is_mixed = source.is_ipv4() != destination.is_ipv4();
    let [source, destination] =
        [source, destination].map(|address| if is_mixed { as_v6(address) } else { address });
    let mut header = Vec::with_capacity(HEADER_BYTES);
    // Two addresses of one family always fit.
    let _ = ProxyHeader::with_address(ProxiedAddress::stream(source, destination)).encode_v2(&mut header);
    header
}

fn as_v6(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddr::from((ip, address.port()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    fn v2(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
        [SIGNATURE.as_slice(), &[command, family], &length.to_be_bytes(), rest].concat()
    }

    /// Sends `sent` and then `after`. Returns the client that was read, and whether `after` was left.
    fn read_from(sent: &[u8], piecewise: bool) -> Result<Option<SocketAddr>, ProxyError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let sending = async {
                for piece in sent.chunks(if piecewise { 1 } else { sent.len() }) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                client.write_all(b"after").await.unwrap();
                client.shutdown().await.unwrap();
            };
            let (client, ()) = tokio::join!(read(&mut stream), sending);
            if client.is_ok() {
                let mut after = Vec::new();
                stream.read_to_end(&mut after).await.unwrap();
                assert_eq!(after, b"after");
            }
            client
        })
    }

    #[test]
    fn both_versions_name_the_client_exactly() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x1f, 0x90];
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        v6[15] = 7;
        v6[33] = 9;
        let with_tlvs = [&v4[..], &[4, 0, 2, 0, 0, 3, 0, 4, 1, 2, 3, 4]].concat();
        let cases: &[(Vec<u8>, Option<&str>)] = &[
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 8080\r\n".to_vec(), Some("192.0.2.7:4660")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 9 443\r\n".to_vec(), Some("[2001:db8::7]:9")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, 12, &v4), Some("192.0.2.7:4660")),
            (v2(0x21, 0x11, 24, &with_tlvs), Some("192.0.2.7:4660")),
            (v2(0x21, 0x21, 36, &v6), Some("[2001:db8::7]:9")),
            (v2(0x20, 0x00, 0, &[]), None),
            (v2(0x20, 0x11, 3, &[1, 2, 3]), None),
            (v2(0x21, 0x00, 0, &[]), None),
            (v2(0x21, 0x00, 5, &[0; 5]), None),
        ];
        for (sent, expected) in cases {
            for piecewise in [false, true] {
                let client = read_from(sent, piecewise).unwrap();
                assert_eq!(client.map(|it| it.to_string()).as_deref(), *expected, "{sent:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_an_error() {
        let cases: &[Vec<u8>] = &[
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.700 10.0.0.1 4660 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\n".to_vec(),
            b"PROXY UDP4 192.0.2.7 10.0.0.1 4660 80\r\n".to_vec(),
            [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat(),
            v2(0x31, 0x11, 12, &[0; 12]),
            v2(0x21, 0x11, 3, &[0; 3]),
            v2(0x21, 0x12, 12, &[0; 12]),
            v2(0x21, 0x11, 5000, &[0; 5000]),
            v2(0x21, 0x11, 12, &[0; 2]),
        ];
        for sent in cases {
            assert!(read_from(sent, false).is_err(), "{sent:?}");
        }
    }

    #[test]
    fn what_we_write_we_can_read() {
        let addresses = ["192.0.2.7:1", "[2001:db8::7]:2"].map(|text| text.parse::<SocketAddr>().unwrap());
        for source in addresses {
            for destination in addresses {
                let client = parse_client(&encode_header(source, destination)).unwrap().unwrap();
                assert_eq!((client.ip().to_canonical(), client.port()), (source.ip(), source.port()));
            }
        }
    }
}
