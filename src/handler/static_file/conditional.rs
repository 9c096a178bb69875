//! Conditional and range requests (RFC 9110, sections 13 and 14). Pure.
//!
//! Deliberately missing: multiple ranges. ADR 0037 says which fields a crate parses, and why the others are parsed here.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use http_range_header::parse_range_header;

use crate::http::compression::ContentCoding;
use crate::os::file_version::FileVersion;

/// The validators of one representation (RFC 9110, section 8.8).
pub(super) struct Validators {
    /// With its quotes, e.g. `"186a7f31c0de4000-1a2b-br"`: nanoseconds, bytes, coding.
    pub(super) tag: String,
    /// In whole seconds. `None` for a date that must not be sent: in the future, or before 1970.
    pub(super) modified: Option<SystemTime>,
}

impl Validators {
    pub(super) fn new(version: &FileVersion, coding: Option<ContentCoding>, now: SystemTime) -> Self {
        let modified = version.modified;
        let nanoseconds = i128::from(modified.seconds) * 1_000_000_000 + i128::from(modified.nanoseconds);
        let size = version.size;
        let tag = match coding {
            None => format!("\"{nanoseconds:x}-{size:x}\""),
            Some(coding) => format!("\"{nanoseconds:x}-{size:x}-{}\"", coding.token()),
        };
        let since_epoch = u64::try_from(modified.seconds).ok().map(Duration::from_secs);
        let modified = since_epoch.and_then(|since| UNIX_EPOCH.checked_add(since));
        Self { tag, modified: modified.filter(|modified| *modified <= now) }
    }

    /// Whether the version is none that the client wants, so the answer is 412 (RFC 9110, section 13.2.2, steps 1 and
    /// 2).
    pub(super) fn are_unwanted(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(IF_MATCH) {
            let mut lines = headers.get_all(IF_MATCH).iter().filter_map(|line| line.to_str().ok());
            return !lines.any(|line| lists(line, &self.tag, Comparison::Strong));
        }
        let since = single(headers, &IF_UNMODIFIED_SINCE).and_then(parse_date);
        since.zip(self.modified).is_some_and(|(since, modified)| modified > since)
    }

    /// Whether the answer to this GET or HEAD is 304 (RFC 9110, section 13.2.2, steps 3 and 4).
    pub(super) fn satisfy(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(IF_NONE_MATCH) {
            return self.are_listed(headers);
        }
        let since = single(headers, &IF_MODIFIED_SINCE).and_then(parse_date);
        since.zip(self.modified).is_some_and(|(since, modified)| modified <= since)
    }

    /// Whether `If-None-Match` lists this tag, by weak comparison (RFC 9110, section 13.1.2).
    pub(super) fn are_listed(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(IF_NONE_MATCH).iter();
        lines.filter_map(|line| line.to_str().ok()).any(|line| lists(line, &self.tag, Comparison::Weak))
    }

    /// The requested bytes of `size`. If `If-Range` names another version, it is the whole (RFC 9110, sections 13.1.5
    /// and 14.2).
    pub(super) fn find_extent(&self, headers: &HeaderMap, size: u64) -> ByteExtent {
        let is_same = match single(headers, &IF_RANGE) {
            None => !headers.contains_key(IF_RANGE),
            // A weak tag never matches here, and a date must be equal.
            Some(tag) if tag.ends_with('"') => tag == self.tag,
            Some(date) => parse_date(date).is_some_and(|date| self.modified == Some(date)),
        };
        match single(headers, &RANGE) {
            Some(range) if is_same => parse_range(range, size),
            Some(_) | None => ByteExtent::Whole,
        }
    }
}

/// Which bytes to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ByteExtent {
    Whole,
    /// Not empty, and within the representation.
    Part(Range<u64>),
    /// It starts behind the end, or has no bytes.
    Unsatisfiable,
}

/// Parses a single byte range. Every other field value means the whole (RFC 9110, section 14.2).
fn parse_range(range: &str, size: u64) -> ByteExtent {
    // Some clients write blanks around the range, which the parser rejects.
    let (unit, ranges) = range.split_once('=').unwrap_or((range, ""));
    let plain = format!("{unit}={}", ranges.trim_matches([' ', '\t']));
    match parse_range_header(&plain) {
        Ok(parsed) if !ranges.contains(',') => match parsed.validate(size).as_deref() {
            Ok([part]) => ByteExtent::Part(*part.start()..part.end().saturating_add(1)),
            // A suffix of an empty file: `Content-Range` cannot describe it.
            Ok(_) => ByteExtent::Whole,
            Err(_) => ByteExtent::Unsatisfiable,
        },
        Ok(_) | Err(_) => ByteExtent::Whole,
    }
}

/// How tags are compared (RFC 9110, section 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// a weak tag equals none
    Strong,
    Weak,
}

/// Whether a line is `*` or lists the tag `wanted`. A malformed element ends the list.
fn lists(line: &str, wanted: &str, comparison: Comparison) -> bool {
    let separators = [' ', '\t', ','];
    let mut rest = line.trim_matches(separators);
    if rest == "*" {
        return true;
    }
    let wanted = wanted.trim_matches('"');
    loop {
        let weak = rest.strip_prefix("W/");
        let Some(quoted) = weak.unwrap_or(rest).strip_prefix('"') else {
            return false;
        };
        let Some((tag, following)) = quoted.split_once('"') else {
            return false;
        };
        if tag == wanted && (weak.is_none() || comparison == Comparison::Weak) {
            return true;
        }
        rest = following.trim_start_matches(separators);
    }
}

/// The value of a field that occurs once. `None` if it is missing or occurs more often.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then(|| first.to_str().ok())?
}

fn parse_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TAG: &str = "\"5f-1a\"";
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sunday, 06-Nov-94 08:49:38 GMT";

    fn validators() -> Validators {
        Validators { tag: TAG.to_owned(), modified: parse_date(DATE) }
    }

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let parse =
            |(name, value): &(HeaderName, &str)| (name.clone(), HeaderValue::from_str(value).unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(parse) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn a_tag_decides_before_a_date() {
        let none_match = |tags| (IF_NONE_MATCH, tags);
        let since = |date| (IF_MODIFIED_SINCE, date);
        let cases: &[(&[(HeaderName, &str)], bool)] = &[
            (&[], false),
            (&[none_match("\"5f-1a\"")], true),
            (&[none_match("W/\"5f-1a\"")], true),
            (&[none_match("\"a,b\" , W/\"c\",\"5f-1a\"")], true),
            (&[none_match(", \"5f-1a\" ,")], true),
            (&[none_match("*")], true),
            (&[none_match("\"other\"")], false),
            (&[none_match("\"other\""), none_match("\"5f-1a\"")], true),
            (&[none_match("\"5f-1a")], false),
            (&[none_match("5f-1a")], false),
            (&[none_match("\"5f-1a-br\"")], false),
            (&[none_match("")], false),
            (&[none_match("\"other\""), since(LATER)], false),
            (&[none_match("\"5f-1a\""), since(EARLIER)], true),
            (&[since(DATE)], true),
            (&[since(LATER)], true),
            (&[since(EARLIER)], false),
            (&[since("yesterday")], false),
            (&[since(DATE), since(DATE)], false),
        ];
        for (fields, expected) in cases {
            assert_eq!(validators().satisfy(&headers(fields)), *expected, "{fields:?}");
        }
    }

    #[test]
    fn ranges_are_limited_to_the_file() {
        let part = ByteExtent::Part;
        let cases = [
            ("bytes=0-0", part(0..1)),
            ("bytes=0-99", part(0..100)),
            ("BYTES=10-19", part(10..20)),
            ("bytes= 10-19 ", part(10..20)),
            ("bytes=90-1000", part(90..100)),
            ("bytes=90-99999999999999999999999", part(90..100)),
            ("bytes=90-", part(90..100)),
            ("bytes=-1", part(99..100)),
            ("bytes=-1000", part(0..100)),
            ("bytes=-99999999999999999999999", part(0..100)),
            ("bytes=100-", ByteExtent::Unsatisfiable),
            ("bytes=100-200", ByteExtent::Unsatisfiable),
            ("bytes=99999999999999999999999-", ByteExtent::Unsatisfiable),
            ("bytes=-0", ByteExtent::Unsatisfiable),
            ("bytes=0-1,5-6", ByteExtent::Whole),
            ("bytes=0-1,", ByteExtent::Whole),
            ("bytes=9-8", ByteExtent::Whole),
            ("bytes=200-100", ByteExtent::Whole),
            ("bytes=-", ByteExtent::Whole),
            ("bytes=", ByteExtent::Whole),
            ("bytes=a-b", ByteExtent::Whole),
            ("bytes=1-b", ByteExtent::Whole),
            ("bytes=a-1", ByteExtent::Whole),
            ("bytes=+1-2", ByteExtent::Whole),
            ("bytes=--1", ByteExtent::Whole),
            ("bytes=1 - 2", ByteExtent::Whole),
            ("bytes 0-1", ByteExtent::Whole),
            ("lines=0-1", ByteExtent::Whole),
            ("0-1", ByteExtent::Whole),
        ];
        for (range, expected) in cases {
            let found = validators().find_extent(&headers(&[(RANGE, range)]), 100);
            assert_eq!(found, expected, "{range:?}");
        }
        assert_eq!(parse_range("bytes=0-", 0), ByteExtent::Unsatisfiable);
        assert_eq!(parse_range("bytes=-5", 0), ByteExtent::Whole);
        let twice = headers(&[(RANGE, "bytes=0-0"), (RANGE, "bytes=1-1")]);
        assert_eq!(validators().find_extent(&twice, 100), ByteExtent::Whole);
    }

    #[test]
    fn a_range_of_another_version_gets_the_whole() {
        let cases = [
            (TAG, true),
            (DATE, true),
            ("W/\"5f-1a\"", false),
            ("\"other\"", false),
            ("\"5f-1a-br\"", false),
            ("*", false),
            (EARLIER, false),
            (LATER, false),
        ];
        for (condition, is_part) in cases {
            let fields = headers(&[(RANGE, "bytes=0-0"), (IF_RANGE, condition)]);
            let expected = if is_part { ByteExtent::Part(0..1) } else { ByteExtent::Whole };
            assert_eq!(validators().find_extent(&fields, 100), expected, "{condition:?}");
        }
    }

    #[test]
    fn a_version_that_is_not_wanted_fails() {
        let modified = parse_date(DATE);
        let validators = Validators { tag: TAG.to_owned(), modified };
        let later = "Sun, 06 Nov 1994 08:49:38 GMT";
        let earlier = "Sun, 06 Nov 1994 08:49:36 GMT";
        let cases: &[(&[(HeaderName, &str)], bool)] = &[
            (&[], false),
            (&[(IF_MATCH, "*")], false),
            (&[(IF_MATCH, TAG)], false),
            (&[(IF_MATCH, "\"x\", \"5f-1a\"")], false),
            (&[(IF_MATCH, "\"x\""), (IF_MATCH, TAG)], false),
            (&[(IF_MATCH, "\"x\"")], true),
            (&[(IF_MATCH, "W/\"5f-1a\"")], true),
            (&[(IF_MATCH, "")], true),
            (&[(IF_UNMODIFIED_SINCE, DATE)], false),
            (&[(IF_UNMODIFIED_SINCE, later)], false),
            (&[(IF_UNMODIFIED_SINCE, earlier)], true),
            (&[(IF_UNMODIFIED_SINCE, "yesterday")], false),
            (&[(IF_MATCH, TAG), (IF_UNMODIFIED_SINCE, earlier)], false),
        ];
        for (fields, expected) in cases {
            assert_eq!(validators.are_unwanted(&headers(fields)), *expected, "{fields:?}");
        }
        let undated = Validators { tag: TAG.to_owned(), modified: None };
        assert!(!undated.are_unwanted(&headers(&[(IF_UNMODIFIED_SINCE, earlier)])));
    }
}
