//! The request target, decoded once: an API call or a path.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

const API: &str = "/api2";

/// Everything that RFC 3986 does not allow plainly in a path segment.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What no query holds plainly and a client may have sent all the same. The rest of it goes on as it came.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// Where a request points.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RequestTarget {
    Api(ApiPath),
    /// under `/api2`, but with no or with a malformed format
    NoSuchUri,
    /// a page or a file; percent-decoded once
    Path(String),
}

/// `/api2/FORMAT/PATH`. What is judged is what is sent on: the path is built anew from its decoded segments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiPath {
    /// the whole path, decoded
    text: String,
    /// where in it the format stands; behind that the path of the call begins
    format: Range<usize>,
}

/// Why a target is refused at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TargetError {
    #[error("the path holds the byte {0:#04X}, which is not UTF-8")]
    NotUtf8(u8),
    #[error("the path holds the control character {:#04X}", u32::from(*.0))]
    Control(char),
    #[error("the path does not begin with /")]
    Relative,
}

impl RequestTarget {
    /// Reads the path of a request (without query), percent-decoding it once as a whole.
    pub fn parse(path: &str) -> Result<Self, TargetError> {
        if !path.starts_with('/') {
            return Err(TargetError::Relative);
        }
        let decoded = percent_decode_str(path).decode_utf8().map_err(|error| {
            TargetError::NotUtf8(percent_decode_str(path).nth(error.valid_up_to()).unwrap_or_default())
        })?;
        if let Some(control) = decoded.chars().find(|c| c.is_control()) {
            return Err(TargetError::Control(control));
        }
        match format_of(&decoded) {
            Ok(format) => Ok(Self::Api(ApiPath { text: decoded.into_owned(), format })),
            // `/api2x` is a slip of the API's, as it was for the original.
            Err(is_api) if is_api || decoded.starts_with(API) => Ok(Self::NoSuchUri),
            Err(_) => Ok(Self::Path(decoded.into_owned())),
        }
    }
}

/// Where in a path of the API its format stands; without one, whether it is a path of the API.
fn format_of(decoded: &str) -> Result<Range<usize>, bool> {
    let mut segments = segments_of(decoded);
    if segments.next() != Some("api2") {
        return Err(false);
    }
    let format = segments.next().filter(|format| is_format(format)).ok_or(true)?;
    let start = format.as_ptr().addr().saturating_sub(decoded.as_ptr().addr());
    Ok(start..start + format.len())
}

/// What stands between slashes, as far as anything does.
fn segments_of(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

fn is_format(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

impl ApiPath {
    pub fn format(&self) -> &str {
        self.text.get(self.format.clone()).unwrap_or_default()
    }

    /// The decoded path behind the format, exactly as it came: for comparisons that must be exact.
    pub fn decoded(&self) -> &str {
        self.text.get(self.format.end..).unwrap_or_default()
    }

    /// The decoded segments, empty ones dropped.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        segments_of(self.decoded())
    }

    /// The decoded segments behind single slashes, as route tables have them.
    pub fn joined(&self) -> Cow<'_, str> {
        let decoded = self.decoded();
        if decoded.starts_with('/') && !decoded.ends_with('/') && !decoded.contains("//") {
            return decoded.into();
        }
        format!("/{}", self.segments().collect::<Vec<_>>().join("/")).into()
    }

    /// The target that is sent on, with the query as it came but for bytes that no query may hold.
    pub fn upstream_target(&self, query: Option<&str>) -> String {
        let mut target = String::with_capacity(self.text.len() + query.map_or(0, str::len) + API.len());
        for part in [API, "/", self.format(), "/"] {
            target.push_str(part);
        }
        for (index, segment) in self.segments().enumerate() {
            if index > 0 {
                target.push('/');
            }
            target.extend(utf8_percent_encode(segment, SEGMENT));
        }
        if let Some(query) = query {
            target.push('?');
            target.extend(utf8_percent_encode(query, QUERY));
        }
        target
    }
}

/// All parameters of a query, decoded; split at `&` and `;`, as the daemon does. One without `=` has no value.
pub fn query_parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Option<Cow<'_, str>>)> {
    query.split(['&', ';']).filter(|parameter| !parameter.is_empty()).map(|parameter| {
        match parameter.split_once('=') {
            Some((name, value)) => (decode(name), Some(decode(value))),
            None => (decode(parameter), None),
        }
    })
}

/// The first value of a query parameter; where it stands without one, it is not counted.
pub fn query_value<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    query_parameters(query).find_map(|(known, value)| value.filter(|_| known == name))
}

/// `application/x-www-form-urlencoded`: `+` is a space.
fn decode(text: &str) -> Cow<'_, str> {
    if text.contains(['+', '%']) {
        let spaced = text.replace('+', " ");
        Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn api(path: &str) -> ApiPath {
        match RequestTarget::parse(path).unwrap() {
            RequestTarget::Api(api) => api,
            other @ (RequestTarget::NoSuchUri | RequestTarget::Path(_)) => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn api_paths_are_decoded_once_and_built_anew() {
        let cases = [
            ("/api2/json/version", "/version", "/api2/json/version"),
            ("/%61pi2/json/version", "/version", "/api2/json/version"),
            ("//api2//json//version/", "//version/", "/api2/json/version"),
            ("/api2/json", "", "/api2/json/"),
            ("/api2/json/a%2Fb", "/a/b", "/api2/json/a/b"),
            ("/api2/json/a%252Fb", "/a%2Fb", "/api2/json/a%252Fb"),
            ("/api2/json/local:iso%2Fx y.iso", "/local:iso/x y.iso", "/api2/json/local:iso/x%20y.iso"),
            ("/api2/extjs/access/ticket/", "/access/ticket/", "/api2/extjs/access/ticket"),
            ("/api2/json/json/x", "/json/x", "/api2/json/json/x"),
            ("/api2/json/%C3%BC", "/ü", "/api2/json/%C3%BC"),
            ("/api2/json/../x", "/../x", "/api2/json/../x"),
        ];
        for (path, decoded, upstream) in cases {
            let api = api(path);
            assert_eq!(api.decoded(), decoded, "{path}");
            assert_eq!(api.upstream_target(None), upstream, "{path}");
        }
        let upstream = |query| api("/api2/json/x").upstream_target(Some(query));
        assert_eq!(upstream("a=%2F&b"), "/api2/json/x?a=%2F&b");
        assert_eq!(upstream("a={\"ü\"}|;<`>"), "/api2/json/x?a={%22%C3%BC%22}|;%3C%60%3E");
    }

    #[test]
    fn api_lookalike_paths_are_classified() {
        for path in ["/api2", "/api2/", "/api2x", "/api2/JSON/version", "/api2/j", "/api2/js%6fn!/x"] {
            assert_eq!(RequestTarget::parse(path).unwrap(), RequestTarget::NoSuchUri, "{path}");
        }
        assert_eq!(RequestTarget::parse("/js/a%20b.js").unwrap(), RequestTarget::Path("/js/a b.js".into()));
        assert_eq!(RequestTarget::parse("/").unwrap(), RequestTarget::Path("/".into()));
    }

    #[test]
    fn query_parameters_match_the_daemon() {
        let cases = [
            ("node=n2", Some("n2")),
            ("a=1&node=n2&node=n3", Some("n2")),
            ("a=1;node=n%32", Some("n2")),
            ("n%6fde=a+b", Some("a b")),
            ("xnode=n2", None),
            ("node", None),
            ("", None),
        ];
        for (query, value) in cases {
            assert_eq!(query_value(query, "node").as_deref(), value, "{query}");
        }
    }

    #[test]
    fn control_characters_and_broken_text_are_refused() {
        let refused = |path| RequestTarget::parse(path).unwrap_err().to_string();
        assert_eq!(refused("/api2/json/a%0d%0ab"), "the path holds the control character 0x0D");
        assert_eq!(refused("/x%00y"), "the path holds the control character 0x00");
        assert_eq!(refused("/x%C2%85"), "the path holds the control character 0x85");
        assert_eq!(refused("/x%fc%"), "the path holds the byte 0xFC, which is not UTF-8");
        assert_eq!(RequestTarget::parse("x"), Err(TargetError::Relative));
    }
}
