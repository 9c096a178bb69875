//! The request target, decoded once: an API call or a path.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::api_grammar::{ApiGrammar, PathKind};

/// Characters that RFC 3986 does not allow unencoded in a path segment.
const SEGMENT: &AsciiSet = &PATH.add(b'%').add(b'/').add(b'[').add(b'\\').add(b']').add(b'|');
const PATH: &AsciiSet = &QUERY.add(b'#').add(b'?').add(b'^').add(b'{').add(b'}');

/// Characters that no query may have unencoded, but that clients send. The rest of a query stays unchanged.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// The target of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RequestTarget {
    /// an API call
    Api(ApiPath),
    /// below the prefix of the API, but with no format or with one that it does not have
    NoSuchUri,
    /// a page or a file; percent-decoded once
    Path(String),
}

/// `/PREFIX/FORMAT/PATH`. nodegate sends on what it verified: the path is built again from its decoded segments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiPath {
    /// the whole path, decoded
    text: String,
    /// the range of the format in it, empty in an API without formats; the path of the call begins behind it
    format: Range<usize>,
    /// whether the path of the call is its segments behind single slashes
    is_normal: bool,
}

/// The reason why a target is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TargetError {
    #[error("the path holds the byte {0:#04X}, which is not UTF-8")]
    NotUtf8(u8),
    #[error("the path holds the control character {:#04X}", u32::from(*.0))]
    Control(char),
    #[error("the path holds a % without two hexadecimal digits")]
    Percent,
    #[error("the path does not begin with /")]
    Relative,
}

impl RequestTarget {
    /// Reads the path of a request (without query), percent-decoding it once as a whole.
    pub fn parse(path: &str, api: &ApiGrammar) -> Result<Self, TargetError> {
        if !path.starts_with('/') {
            return Err(TargetError::Relative);
        }
        let decoded = percent_decode_str(path).decode_utf8().map_err(|error| {
            TargetError::NotUtf8(percent_decode_str(path).nth(error.valid_up_to()).unwrap_or_default())
        })?;
        if let Some(control) = decoded.chars().find(|c| c.is_control()) {
            return Err(TargetError::Control(control));
        }
        Ok(match api.classify(&decoded) {
            PathKind::Call(format) => Self::Api(ApiPath::new(decoded.into_owned(), format)),
            PathKind::NoCall => Self::NoSuchUri,
            PathKind::Other if has_broken_escape(path) => return Err(TargetError::Percent),
            PathKind::Other => {
                Self::Path(without_dot_segments(&decoded).unwrap_or_else(|| decoded.into_owned()))
            }
        })
    }
}

fn has_broken_escape(path: &str) -> bool {
    let is_byte = |digits: &[u8; 2]| digits.iter().all(u8::is_ascii_hexdigit);
    path.split('%').skip(1).any(|rest| !rest.as_bytes().first_chunk().is_some_and(is_byte))
}

/// The path that its dot segments lead to (RFC 3986 section 5.2.4). `None` if it has none, or if they lead out of the
/// root.
fn without_dot_segments(path: &str) -> Option<String> {
    if !path.contains("/.") {
        return None;
    }
    let mut segments = Vec::new();
    let mut rest = path.split('/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        match segment {
            "." => (),
            ".." => drop(segments.pop()?),
            _ => segments.push(segment),
        }
        if rest.peek().is_none() && matches!(segment, "." | "..") {
            segments.push("");
        }
    }
    Some(format!("/{}", segments.join("/")))
}

/// The parts between slashes, empty ones dropped.
pub(super) fn segments_of(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

impl ApiPath {
    fn new(text: String, format: Range<usize>) -> Self {
        let decoded = text.get(format.end..).unwrap_or_default();
        let is_normal = decoded.starts_with('/') && !decoded.ends_with('/') && !decoded.contains("//");
        Self { text, format, is_normal }
    }

    /// Empty in an API without formats.
    pub fn format(&self) -> &str {
        self.text.get(self.format.clone()).unwrap_or_default()
    }

    /// The decoded path behind the format, for exact comparisons.
    pub fn decoded(&self) -> &str {
        self.text.get(self.format.end..).unwrap_or_default()
    }

    /// The decoded segments, empty ones dropped.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        segments_of(self.decoded())
    }

    /// The decoded segments behind single slashes, as route tables have them.
    pub fn joined(&self) -> Cow<'_, str> {
        if self.is_normal {
            return self.decoded().into();
        }
        format!("/{}", self.segments().collect::<Vec<_>>().join("/")).into()
    }

    /// The target that is sent on. The query is unchanged except for bytes that no query may have.
    pub fn upstream_target(&self, query: Option<&str>) -> String {
        let mut target = String::with_capacity(self.text.len() + query.map_or(0, str::len) + 1);
        for segment in segments_of(self.text.get(..self.format.end).unwrap_or_default()) {
            target.push('/');
            target.push_str(segment);
        }
        target.push('/');
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

/// The first value of a query parameter; occurrences without a value do not count.
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
    use super::*;
    use crate::http::api_grammar::tests::{named_formats, one_format};

    fn parse(path: &str) -> Result<RequestTarget, TargetError> {
        RequestTarget::parse(path, &named_formats())
    }

    fn api(path: &str) -> ApiPath {
        match parse(path).unwrap() {
            RequestTarget::Api(api) => api,
            other @ (RequestTarget::NoSuchUri | RequestTarget::Path(_)) => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn api_paths_are_decoded_once_and_rebuilt() {
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
    fn single_format_apis_need_no_segment() {
        let parse = |path| RequestTarget::parse(path, &one_format()).unwrap();
        for (path, decoded, upstream) in [
            ("/rest/v1/things", "/things", "/rest/v1/things"),
            ("//rest/%761//things/", "//things/", "/rest/v1/things"),
            ("/rest/v1/json/x", "/json/x", "/rest/v1/json/x"),
            ("/rest/v1", "", "/rest/v1/"),
        ] {
            let RequestTarget::Api(api) = parse(path) else { panic!("{path}") };
            assert_eq!((api.decoded(), api.format()), (decoded, ""), "{path}");
            assert_eq!(api.upstream_target(None), upstream, "{path}");
        }
        assert_eq!(parse("/rest/v1x"), RequestTarget::NoSuchUri);
        for path in ["/rest", "/rest/v2/things", "/api2/json/things"] {
            assert_eq!(parse(path), RequestTarget::Path(path.into()));
        }
    }

    #[test]
    fn api_lookalike_paths_are_classified() {
        for path in ["/api2", "/api2/", "/api2x", "/api2/JSON/version", "/api2/j", "/api2/js%6fn!/x"] {
            assert_eq!(parse(path).unwrap(), RequestTarget::NoSuchUri, "{path}");
        }
        assert_eq!(parse("/js/a%20b.js").unwrap(), RequestTarget::Path("/js/a b.js".into()));
        assert_eq!(parse("/").unwrap(), RequestTarget::Path("/".into()));
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
        let refused = |path| parse(path).unwrap_err().to_string();
        assert_eq!(refused("/api2/json/a%0d%0ab"), "the path holds the control character 0x0D");
        assert_eq!(refused("/x%00y"), "the path holds the control character 0x00");
        assert_eq!(refused("/x%C2%85"), "the path holds the control character 0x85");
        assert_eq!(refused("/x%fc%"), "the path holds the byte 0xFC, which is not UTF-8");
        assert_eq!(parse("x"), Err(TargetError::Relative));
    }

    #[test]
    fn dot_segments_of_files_lead_to_a_path() {
        let cases = [
            ("/pve2/../js/./a.js", "/js/a.js"),
            ("/pve2/%2e%2e/js/%2E/a.js", "/js/a.js"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/..", "/"),
            ("/a//../b", "/a/b"),
            ("/a/.well-known/..b/c..", "/a/.well-known/..b/c.."),
            ("/..", "/.."),
            ("/a/../../b", "/a/../../b"),
            ("/x/../api2/json/version", "/api2/json/version"),
        ];
        for (path, expected) in cases {
            assert_eq!(parse(path), Ok(RequestTarget::Path(expected.to_owned())), "{path}");
        }
    }

    #[test]
    fn broken_escapes_of_files_are_refused() {
        for path in ["/bar%", "/bar%2", "/bar%zz", "/%2x/a", "/%%41"] {
            assert_eq!(parse(path), Err(TargetError::Percent), "{path}");
        }
        assert_eq!(parse("/b%61r%25"), Ok(RequestTarget::Path("/bar%".to_owned())));
        assert_eq!(api("/api2/json/50%").decoded(), "/50%");
    }
}
