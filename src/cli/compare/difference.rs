//! Differences between two answers that a client would notice.

use std::collections::BTreeSet;

use serde_json::Value;

use super::client::ComparedResponse;
use super::content::ComparedBody;
use super::html;
use super::secrets::SecretMask;
use super::structure::{self, UnorderedLists, ValueDifference};

/// The other headers are about the connection, the time, or the server's name.
const HEADERS: [&str; 8] = [
    "content-type",
    "content-encoding",
    "location",
    "cache-control",
    "set-cookie",
    "content-disposition",
    "www-authenticate",
    "last-modified",
];
pub(crate) const STATUS: &str = "HTTP status";
const BODY: &str = "HTTP body";

/// The result of two answers to the same request.
#[derive(Debug)]
pub(crate) enum ComparisonResult {
    Equal,
    /// both refuse this client, so neither shows what it would answer
    Refused,
    /// neither reaches a daemon
    Unserved,
    Differ(Vec<ValueDifference>),
}

/// How the answers to one call are compared.
pub(crate) struct CallRules<'a> {
    pub(crate) unordered: UnorderedLists,
    /// the page to which a refused client is redirected
    pub(crate) login_page: Option<&'a str>,
    pub(crate) secrets: &'a SecretMask,
}

impl CallRules<'_> {
    pub(crate) fn compare(&self, original: &ComparedResponse, ours: &ComparedResponse) -> ComparisonResult {
        if original.status == ours.status {
            let (theirs, own) = (self.effective_status(original), self.effective_status(ours));
            match (theirs, own) {
                (401 | 403 | 407 | 429, 401 | 403 | 407 | 429) if theirs == own => {
                    return ComparisonResult::Refused;
                }
                (502..=504 | 595..=599, 502..=504 | 595..=599) if theirs == own => {
                    return ComparisonResult::Unserved;
                }
                (_, _) => (),
            }
        }
        let found = self.differences(original, ours);
        if found.is_empty() { ComparisonResult::Equal } else { ComparisonResult::Differ(found) }
    }

    /// If the status differs, the rest differs too.
    pub(crate) fn differences(
        &self,
        original: &ComparedResponse,
        ours: &ComparedResponse,
    ) -> Vec<ValueDifference> {
        let mut found = Vec::new();
        let mut note = |path: &str, original: Option<String>, ours: Option<String>| {
            if original != ours {
                let (original, ours) = (original.map(Value::from), ours.map(Value::from));
                found.push(ValueDifference { path: path.to_owned(), original, ours });
            }
        };
        note(STATUS, Some(original.status_text()), Some(ours.status_text()));
        for name in HEADERS {
            note(&format!("HTTP header {name}"), header(original, name), header(ours, name));
        }
        if original.status != ours.status {
            return found;
        }
        match (&original.content, &ours.content) {
            (ComparedBody::Json(original), ComparedBody::Json(ours)) => {
                found.extend(structure::differences(original, ours, &self.unordered));
            }
            (ComparedBody::Html(original), ComparedBody::Html(ours)) => {
                let (original, ours) = (html::page(original, self.secrets), html::page(ours, self.secrets));
                // If the list has no order, the elements that show it have none either.
                let is_list = !self.unordered.is_empty();
                if !(is_list && html::words(&original) == html::words(&ours)) {
                    found.extend(structure::differences(&original, &ours, &UnorderedLists::new()));
                }
            }
            (original, ours) => note(BODY, Some(original.summary()), Some(ours.summary())),
        }
        found
    }

    /// A refusal may have a status of success: with the status in the body, or as a redirect to the login page.
    pub(crate) fn effective_status(&self, answer: &ComparedResponse) -> u16 {
        let is_login = |location: String| self.login_page.is_some_and(|page| location.ends_with(page));
        if (300..400).contains(&answer.status) && answer.header("location").is_some_and(is_login) {
            return 401;
        }
        let ComparedBody::Json(body) = &answer.content else { return answer.status };
        let has_failed = body.get("success").is_some_and(|success| success == 0);
        let status = body.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
        status.filter(|_| has_failed).unwrap_or(answer.status)
    }
}

/// The first differences that the second answers have as well. A value that one server answers differently by then
/// changes by itself.
pub(crate) fn lasting(
    first: Vec<ValueDifference>,
    second: &[ValueDifference],
    changed: &[ValueDifference],
) -> Vec<ValueDifference> {
    let again: BTreeSet<&str> = second.iter().map(|it| it.path.as_str()).collect();
    let is_volatile =
        |path: &str| changed.iter().any(|it| is_within(path, &it.path) || is_within(&it.path, path));
    first.into_iter().filter(|it| again.contains(it.path.as_str()) && !is_volatile(&it.path)).collect()
}

fn is_within(path: &str, whole: &str) -> bool {
    path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn header(answer: &ComparedResponse, name: &str) -> Option<String> {
    let value = answer.header(name)?;
    // RFC 9110, 8.3.1: white space and case of a media type mean nothing.
    let is_type = name == "content-type";
    Some(if is_type { value.replace("; ", ";").to_ascii_lowercase() } else { value })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::super::content::BodyReader;
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> ComparedResponse {
        let pair =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let headers: HeaderMap = headers.iter().map(pair).collect();
        let mut reader = BodyReader::new(&headers);
        reader.add(body.as_bytes());
        ComparedResponse {
            status,
            reason: "OK".to_owned(),
            headers,
            length: reader.length(),
            content: reader.finish(),
        }
    }

    fn compare(original: &ComparedResponse, ours: &ComparedResponse) -> ComparisonResult {
        let secrets = SecretMask::new().unwrap();
        let login_page = Some("/api2/html/access/ticket");
        CallRules { unordered: UnorderedLists::new(), login_page, secrets: &secrets }.compare(original, ours)
    }

    fn paths(verdict: ComparisonResult) -> Vec<String> {
        let ComparisonResult::Differ(found) = verdict else { panic!("{verdict:?}") };
        found.into_iter().map(|it| it.path).collect()
    }

    const JSON: (&str, &str) = ("Content-Type", "application/json;charset=UTF-8");

    #[test]
    fn what_a_client_would_notice_is_a_difference() {
        let one = answer(200, &[("Date", "Mon"), ("Content-Type", "text/css;charset=UTF-8")], "a");
        let same =
            answer(200, &[("Date", "Tue"), ("Content-Type", "text/css; charset=utf-8"), ("ETag", "x")], "a");
        assert!(matches!(compare(&one, &same), ComparisonResult::Equal));
        let other = answer(404, &[("Content-Type", "text/plain")], "b");
        assert_eq!(paths(compare(&one, &other)), [STATUS, "HTTP header content-type"]);
        let longer = answer(200, &[("Content-Type", "text/css;charset=UTF-8")], "bb");
        assert_eq!(paths(compare(&one, &longer)), [BODY]);
        let mut phrase = answer(200, &[("Content-Type", "text/css;charset=UTF-8")], "a");
        phrase.reason = "Fine".to_owned();
        assert_eq!(paths(compare(&one, &phrase)), [STATUS]);
        let (json, text) = (answer(200, &[JSON], "{}"), answer(200, &[JSON], "{"));
        assert_eq!(paths(compare(&json, &text)), [BODY]);
    }

    #[test]
    fn two_refusals_are_no_equality() {
        let refused = r#"{"data":null,"success":0,"status":403,"message":"x"}"#;
        for (original, ours) in [
            (answer(401, &[], ""), answer(401, &[JSON], r#"{"data":null}"#)),
            (answer(200, &[JSON], refused), answer(200, &[JSON], refused)),
            (
                answer(301, &[("Location", "/api2/html/access/ticket")], ""),
                answer(301, &[("Location", "https://node:8006/api2/html/access/ticket")], ""),
            ),
        ] {
            assert!(matches!(compare(&original, &ours), ComparisonResult::Refused), "{original:?}");
        }
        let (down, out) = (answer(595, &[], ""), answer(503, &[], ""));
        assert!(matches!(compare(&down, &down), ComparisonResult::Unserved));
        assert_eq!(paths(compare(&down, &out)), [STATUS]);
        assert_eq!(paths(compare(&answer(401, &[], ""), &answer(200, &[], ""))), [STATUS]);
        let missing = answer(404, &[], "x");
        assert!(matches!(compare(&missing, &missing), ComparisonResult::Equal), "that is an answer");
    }

    #[test]
    fn only_what_lasts_is_a_difference() {
        let found = |paths: &[&str]| -> Vec<ValueDifference> {
            let difference =
                |path: &&str| ValueDifference { path: (*path).to_owned(), original: None, ours: None };
            paths.iter().map(difference).collect()
        };
        let first = found(&["data.uptime", "data.name", "data.once", "data.disks[3].used", "data.diskspace"]);
        let second = found(&["data.uptime", "data.name", "data.disks[3].used", "data.diskspace"]);
        let lasting = lasting(first, &second, &found(&["data.uptime", "data.disks"]));
        let paths: Vec<_> = lasting.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(paths, ["data.name", "data.diskspace"]);
    }
}
