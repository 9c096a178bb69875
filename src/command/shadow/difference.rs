//! What differs between two answers, as far as a client would notice.

use super::client::Seen;

/// Others tell of the connection, the time, or the server's own name.
const HEADERS: [&str; 8] = [
    "content-type",
    "location",
    "cache-control",
    "pragma",
    "set-cookie",
    "content-disposition",
    "www-authenticate",
    "last-modified",
];

/// A line for each thing that differs; none where nothing does.
pub(super) fn between(original: &Seen, ours: &Seen) -> Vec<String> {
    let mut lines = Vec::new();
    let mut differ = |what: &str, original: &str, ours: &str| {
        if original != ours {
            lines.push(format!("{what}: {original} | {ours}"));
        }
    };
    let line = |seen: &Seen| format!("{} {}", seen.status, seen.reason);
    differ("status", line(original).trim(), line(ours).trim());
    for name in HEADERS {
        differ(name, original.header(name).unwrap_or("-"), ours.header(name).unwrap_or("-"));
    }
    differ("body", &body(original), &body(ours));
    lines
}

/// Whether the bodies are all that differs: then it may be that they change by themselves.
pub(super) fn is_of_bodies_alone(lines: &[String]) -> bool {
    lines.iter().all(|line| line.starts_with("body: "))
}

fn body(seen: &Seen) -> String {
    let [a, b, c, d, ..] = openssl::sha::sha256(&seen.body);
    format!("{} bytes sha256 {a:02x}{b:02x}{c:02x}{d:02x}…", seen.body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(status: u16, headers: &[(&str, &str)], body: &str) -> Seen {
        let owned = |text: &str| text.to_owned();
        let headers = headers.iter().map(|(name, value)| (owned(name), owned(value))).collect();
        Seen { status, reason: "OK".to_owned(), headers, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn what_a_client_would_notice_is_told_and_no_more() {
        let one = seen(200, &[("Date", "Mon"), ("Content-Type", "text/css")], "a");
        let same = seen(200, &[("Date", "Tue"), ("content-type", "text/css"), ("ETag", "x")], "a");
        assert!(between(&one, &same).is_empty());
        let other = seen(404, &[("Content-Type", "text/plain")], "a");
        assert_eq!(between(&one, &other), ["status: 200 OK | 404 OK", "content-type: text/css | text/plain"]);
        let lines = between(&one, &seen(200, &[("Content-Type", "text/css")], "b"));
        assert_eq!(lines, ["body: 1 bytes sha256 ca978112… | 1 bytes sha256 3e23e816…"]);
        assert!(is_of_bodies_alone(&lines));
        assert!(!is_of_bodies_alone(&between(&one, &other)));
    }
}
