//! Content codings: which one a client wants (pure), and compressing a whole body once.

use std::io;

use async_compression::Level;
use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use bytes::Bytes;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::http::validate::is_token_byte;

/// A content coding other than `identity` (RFC 9110, section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentCoding {
    /// RFC 7932
    Brotli,
    /// RFC 8878
    Zstd,
    /// RFC 1952
    Gzip,
    /// The zlib format; raw deflate is what some clients mistook it for (RFC 9110, section 8.4.1.2).
    Deflate,
}

impl ContentCoding {
    /// The registered name, as in `Content-Encoding`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn is_named(self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.token()) || (self == Self::Gzip && name.eq_ignore_ascii_case("x-gzip"))
    }
}

/// A quality value in thousandths, 0 to 1000 (RFC 9110, section 12.4.2).
type Quality = u16;

/// The coding to send, `None` for identity (RFC 9110, section 12.5.3).
///
/// `accept_encoding` is the field's value, several lines joined with `, `. Of equally wanted codings the one
/// that stands first in `offered` wins, and any of them wins over an equally wanted identity. A malformed
/// field asks for nothing. Identity is sent even to a client that refuses it but accepts nothing else:
/// an answer serves it better than 415.
pub fn negotiate(accept_encoding: Option<&str>, offered: &[ContentCoding]) -> Option<ContentCoding> {
    let preferences = parse(accept_encoding?)?;
    let quality = |wanted: &dyn Fn(&str) -> bool| {
        let named = preferences.iter().find(|(name, _)| wanted(name));
        named.map(|(_, quality)| *quality)
    };
    let any = quality(&|name| name == "*");
    let identity = quality(&|name| name.eq_ignore_ascii_case("identity")).unwrap_or(0);

    let mut best: Option<(ContentCoding, Quality)> = None;
    for &coding in offered {
        let wanted = quality(&|name| coding.is_named(name)).or(any).unwrap_or(0);
        let least = best.map_or(identity.max(1), |(_, quality)| quality + 1);
        if wanted >= least {
            best = Some((coding, wanted));
        }
    }
    best.map(|(coding, _)| coding)
}

/// The coding for contents that nodegate compresses itself, by all lines of `Accept-Encoding`. zstd is the quickest by
/// far, and the first client waits for it.
pub fn negotiate_own(headers: &HeaderMap) -> Option<ContentCoding> {
    use ContentCoding::{Brotli, Deflate, Gzip, Zstd};
    let lines = headers.get_all(ACCEPT_ENCODING).iter();
    let lines: Option<Vec<_>> = lines.map(|line| line.to_str().ok()).collect();
    negotiate(Some(&lines?.join(", ")), &[Zstd, Brotli, Gzip, Deflate])
}

/// Names and qualities in the order of the field; `None` if any element is malformed.
fn parse(field: &str) -> Option<Vec<(&str, Quality)>> {
    let elements = field.split(',').map(trim).filter(|element| !element.is_empty());
    elements.map(parse_element).collect()
}

fn parse_element(element: &str) -> Option<(&str, Quality)> {
    let (name, quality) = match element.split_once(';') {
        None => (element, 1000),
        Some((name, weight)) => {
            let (key, value) = trim(weight).split_once('=')?;
            let quality = key.eq_ignore_ascii_case("q").then(|| parse_quality(value))??;
            (trim(name), quality)
        }
    };
    let is_token = !name.is_empty() && name.bytes().all(is_token_byte);
    is_token.then_some((name, quality))
}

/// `0`, `0.125`, `1`, `1.000`: at most three decimals, nothing above one.
fn parse_quality(text: &str) -> Option<Quality> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = decimals.bytes().map(|digit| Quality::from(digit - b'0'));
    let thousandths = digits.zip([100, 10, 1]).map(|(digit, unit)| digit * unit).sum();
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// Without optional white space (RFC 9110, section 5.6.3).
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// All of `plain` in `coding`. Results are kept and sent many times, but the first client waits for them: a higher level
/// costs two to five times as long, and saves 1 to 4 %.
///
/// Runs on the blocking pool, so that the reactor goes on. Needs a running tokio runtime.
pub async fn compress(coding: ContentCoding, plain: Bytes) -> io::Result<Bytes> {
    let runtime = Handle::current();
    let work = spawn_blocking(move || runtime.block_on(encode(coding, &plain)));
    work.await.map_err(io::Error::other)?
}

async fn encode(coding: ContentCoding, plain: &[u8]) -> io::Result<Bytes> {
    let mut encoder: Box<dyn AsyncRead + Unpin> = match coding {
        ContentCoding::Brotli => Box::new(BrotliEncoder::with_quality(plain, Level::Precise(5))),
        ContentCoding::Zstd => Box::new(ZstdEncoder::with_quality(plain, Level::Precise(9))),
        ContentCoding::Gzip => Box::new(GzipEncoder::with_quality(plain, Level::Precise(6))),
        ContentCoding::Deflate => Box::new(ZlibEncoder::with_quality(plain, Level::Precise(6))),
    };
    let mut packed = Vec::new();
    encoder.read_to_end(&mut packed).await?;
    packed.shrink_to_fit();
    Ok(Bytes::from(packed))
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};

    use super::ContentCoding::{Brotli, Deflate, Gzip, Zstd};
    use super::*;

    #[test]
    fn negotiation_follows_qualities_then_the_offer() {
        let all = [Brotli, Zstd, Gzip, Deflate];
        let cases = [
            ("gzip, deflate, br, zstd", Some(Brotli)),
            ("gzip, deflate", Some(Gzip)),
            ("GZIP", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("deflate;q=0.9, gzip;q=0.8", Some(Deflate)),
            ("gzip;q=0.801,deflate;q=0.8", Some(Gzip)),
            ("br;q=0, gzip", Some(Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=0.000", None),
            ("gzip;Q=1.000", Some(Gzip)),
            ("gzip \t; \tq=1.", Some(Gzip)),
            ("*", Some(Brotli)),
            ("*;q=0", None),
            ("br;q=0, *", Some(Zstd)),
            ("br;q=0.2, *;q=0.1", Some(Brotli)),
            ("gzip, *;q=0", Some(Gzip)),
            ("identity", None),
            ("identity;q=0", None),
            ("identity;q=0, gzip", Some(Gzip)),
            ("identity;q=1, gzip;q=0.5", None),
            ("Identity;q=0.5, gzip;q=0.5", Some(Gzip)),
            ("identity, *;q=0.5", None),
            ("", None),
            (" , ,gzip,", Some(Gzip)),
            ("compress, sdch", None),
            ("gzi, gzipp", None),
            ("gzip;q=2", None),
            ("gzip;q=1.001", None),
            ("gzip;q=-1", None),
            ("gzip;q=0.1234", None),
            ("gzip;q=", None),
            ("gzip;q", None),
            ("gzip;q = 1", None),
            ("gzip;level=1", None),
            ("gzip;q=1;q=1", None),
            ("gzip, \"br\"", None),
            ("gzip br", None),
            (";q=1, gzip", None),
        ];
        for (field, expected) in cases {
            assert_eq!(negotiate(Some(field), &all), expected, "{field:?}");
        }
        assert_eq!(negotiate(None, &all), None);
        assert_eq!(negotiate(Some("br"), &[Gzip]), None);
        assert_eq!(negotiate(Some("br, gzip"), &[Gzip, Brotli]), Some(Gzip));
    }

    #[tokio::test]
    async fn every_coding_round_trips() {
        let plain = Bytes::from("var answer = 42;\n".repeat(10_000));
        for coding in [Brotli, Zstd, Gzip, Deflate] {
            for plain in [&plain, &Bytes::new()] {
                let packed = compress(coding, plain.clone()).await.unwrap();
                assert!(plain.is_empty() || packed.len() < plain.len() / 10, "{coding:?}");
                let packed = packed.as_ref();
                let mut decoder: Box<dyn AsyncRead + Unpin> = match coding {
                    Brotli => Box::new(BrotliDecoder::new(packed)),
                    Zstd => Box::new(ZstdDecoder::new(packed)),
                    Gzip => Box::new(GzipDecoder::new(packed)),
                    Deflate => Box::new(ZlibDecoder::new(packed)),
                };
                let mut unpacked = Vec::new();
                decoder.read_to_end(&mut unpacked).await.unwrap();
                assert_eq!(unpacked, *plain, "{coding:?}");
            }
        }
    }
}
