//! Finds the credential of a request: exactly one, by the same patterns that the daemon uses.

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

/// The one credential that nodegate verifies and sends on if it is good.
#[derive(Clone, Eq, PartialEq)]
pub enum Credential {
    /// a login ticket
    Ticket(String),
    /// `USER@REALM!TOKENID=UUID`; only the daemon can verify it
    ApiToken(String),
}

/// The names under which a product's clients send credentials.
#[derive(Clone, Copy)]
pub struct CredentialNames<'a> {
    pub cookie: &'a str,
    pub api_token: Option<&'a str>,
}

/// Takes the credential from `Cookie`, otherwise from `Authorization` with the cookie's name, else from `Authorization`
/// with the name of API tokens. An empty value, or `0`, counts as none.
///
/// `cookie` is every `Cookie` line joined by `; `, as RFC 9113 section 8.2.3 joins them.
pub fn take(names: CredentialNames<'_>, cookie: &str, authorization: &str) -> Option<Credential> {
    value_of(names.cookie, cookie)
        .or_else(|| value_of(names.cookie, authorization))
        .map(Credential::Ticket)
        .or_else(|| value_of(names.api_token?, authorization).map(Credential::ApiToken))
}

/// The first `NAME=VALUE` or `NAME VALUE` at the start or after white space, up to `;`, percent-decoded. Some
/// clients quote the value.
pub fn value_of(name: &str, text: &str) -> Option<String> {
    let behind = text.match_indices(name).find_map(|(at, _)| {
        let before = text.get(..at)?.chars().next_back();
        let rest = text.get(at + name.len()..)?;
        let rest = rest.strip_prefix('=').or_else(|| rest.strip_prefix(' '))?;
        before.is_none_or(char::is_whitespace).then_some(rest)
    })?;
    let raw = behind.split(';').next().unwrap_or_default().trim();
    let raw = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
    let value = percent_decode_str(raw).decode_utf8().ok()?;
    (!value.is_empty() && value != "0").then(|| value.into_owned())
}

/// Whether the text has the form of an API token. Its value is a secret that only the daemon knows.
pub fn is_api_token(text: &str) -> bool {
    let Some((id, secret)) = text.split_once('=') else { return false };
    let Some((user, token)) = id.split_once('!') else { return false };
    let plain = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    user.rsplit_once('@').is_some_and(|(name, realm)| {
        !name.is_empty() && !name.contains([':', '/']) && !name.contains(char::is_whitespace) && plain(realm)
    }) && plain(token)
        && !secret.is_empty()
        && secret.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// The part of an API token that may be logged.
pub fn api_token_id(text: &str) -> &str {
    text.split('=').next().unwrap_or_default()
}

/// A header value that debug output hides.
pub fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Several lines of one header as one text; `Cookie` is joined by `; ` (RFC 9113 section 8.2.3).
pub fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let lines: Vec<_> =
        headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: CredentialNames<'_> = CredentialNames { cookie: "AuthCookie", api_token: Some("APIToken") };

    fn ticket(text: &str) -> Credential {
        Credential::Ticket(text.to_owned())
    }

    #[test]
    fn cookies_are_read_as_the_daemon_reads_them() {
        let cases: &[(&str, Option<&str>)] = &[
            ("AuthCookie=P:a@b:1::x+/=", Some("P:a@b:1::x+/=")),
            ("AuthCookie=P%3Aa%40b", Some("P:a@b")),
            ("AuthCookie=\"P:a@b\"", Some("P:a@b")),
            ("AuthCookie=P%3Aa; path=/; secure; SameSite=Strict;", Some("P:a")),
            ("lang=de; AuthCookie=P:a; theme=x", Some("P:a")),
            ("lang=de;AuthCookie=P:a", None),
            ("XAuthCookie=P:a", None),
            ("XAuthCookie=no; AuthCookie=yes", Some("yes")),
            ("AuthCookie P:a", Some("P:a")),
            ("authcookie=P:a", None),
            ("AuthCookie=; AuthCookie=P:a", None),
            ("AuthCookie=0", None),
            ("AuthCookie=first; AuthCookie=second", Some("first")),
            ("AuthCookie=%ff%fe", None),
            ("", None),
        ];
        for (cookie, expected) in cases {
            assert!(take(NAMES, cookie, "") == expected.map(ticket), "{cookie}");
        }
    }

    #[test]
    fn cookie_precedes_authorization_and_ticket_precedes_token() {
        let token = "APIToken=u@pam!t=1-2";
        assert!(take(NAMES, "AuthCookie=a", "AuthCookie=b") == Some(ticket("a")));
        assert!(take(NAMES, "AuthCookie=", "AuthCookie=b") == Some(ticket("b")));
        assert!(take(NAMES, "AuthCookie=a", token) == Some(ticket("a")));
        assert!(take(NAMES, "", token) == Some(Credential::ApiToken("u@pam!t=1-2".into())));
        assert!(take(NAMES, "", "APIToken u@pam!t=1-2") == Some(Credential::ApiToken("u@pam!t=1-2".into())));
        assert!(take(CredentialNames { api_token: None, ..NAMES }, "", token).is_none());
    }

    #[test]
    fn api_tokens_have_a_form() {
        assert!(is_api_token("root@pam!mon=f4b0a1c2-0000-4000-8000-000000000000"));
        for wrong in
            ["root@pam", "root!mon=1", "root@pam!mon", "root@pam!=1", "r t@pam!m=1", "root@pam!m=xyz"]
        {
            assert!(!is_api_token(wrong), "{wrong}");
        }
        assert_eq!(api_token_id("root@pam!mon=secret"), "root@pam!mon");
    }
}
