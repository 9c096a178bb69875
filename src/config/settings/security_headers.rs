//! Settings of consoles, and of headers for browsers.

use super::Row;
use crate::config::setting::SECONDS_OR_OFF;
use crate::config::setting::ValueKind::{Bool, List, Number, Text};

pub(super) const ROWS: &[Row] = &[
    Row::new("console.ping", "30", SECONDS_OR_OFF, |s, v| v.seconds_or_off(&mut s.console_ping))
        .doc("seconds of silence after which nodegate pings a console; 0: never"),
    Row::new("console.recheck", "30", SECONDS_OR_OFF, |s, v| v.seconds_or_off(&mut s.console_recheck))
        .doc("seconds between two checks of an open session's client; 0: never"),
    Row::new("console.origins", "", List, |s, v| {
        v.parsed(&mut s.console_origins, AllowedOrigins::parse_listed)
    })
    .doc("origins whose pages may open consoles"),
    Row::new("headers.nosniff", "true", Bool, |s, v| v.truth(&mut s.browser.nosniff))
        .doc("`X-Content-Type-Options: nosniff` in every answer"),
    Row::new("headers.hsts", "0", Number(0, 157_680_000), |s, v| v.number_or_off(&mut s.browser.hsts))
        .doc("seconds for `Strict-Transport-Security`; 0: off"),
    Row::new("headers.frames", "", Text, |s, v| v.parsed(&mut s.browser.frames, FramePolicy::parse))
        .doc("`sameorigin` or `deny`: pages that may show yours in a frame"),
    Row::new("headers.referrer", "", Text, |s, v| v.parsed(&mut s.browser.referrer, referrer))
        .doc("the `Referrer-Policy` of every answer, such as `same-origin`"),
    Row::new("headers.csp", "false", Bool, |s, v| v.truth(&mut s.browser.policy))
        .doc("sends the profile's `page_policy` as `Content-Security-Policy`"),
    Row::new("cors.origins", "", List, |s, v| v.parsed(&mut s.browser.origins, AllowedOrigins::parse))
        .doc("origins whose pages may call the API with a login"),
];

/// Headers that restrict what browsers do with a page, and the origins that may read answers.
#[derive(Clone, Debug, Default)]
pub struct BrowserSettings {
    pub nosniff: bool,
    /// seconds; `None` sends no header
    pub hsts: Option<u64>,
    pub frames: Option<FramePolicy>,
    pub referrer: Option<&'static str>,
    /// whether pages get the policy of the profile
    pub policy: bool,
    pub origins: AllowedOrigins,
}

/// The pages that may embed ours in a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FramePolicy {
    Deny,
    SameOrigin,
}

impl FramePolicy {
    pub fn name(self) -> &'static str {
        match self {
            Self::Deny => "DENY",
            Self::SameOrigin => "SAMEORIGIN",
        }
    }

    fn parse(text: &str) -> Result<Option<Self>, String> {
        match text.to_ascii_lowercase().as_str() {
            "" => Ok(None),
            "deny" => Ok(Some(Self::Deny)),
            "sameorigin" => Ok(Some(Self::SameOrigin)),
            _ => Err(format!("must be deny, sameorigin or empty, not '{text}'")),
        }
    }
}

/// The values that there are (W3C Referrer Policy, section 3).
const REFERRERS: [&str; 8] = [
    "no-referrer",
    "no-referrer-when-downgrade",
    "same-origin",
    "origin",
    "strict-origin",
    "origin-when-cross-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
];

fn referrer(text: &str) -> Result<Option<&'static str>, String> {
    let known = REFERRERS.into_iter().find(|known| *known == text);
    if known.is_some() || text.is_empty() {
        Ok(known)
    } else {
        Err(format!("must be empty or one of {}, not '{text}'", REFERRERS.join(", ")))
    }
}

/// Origins whose pages may call the API and read its answers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AllowedOrigins {
    listed: Vec<String>,
    /// all others may as well, but without a login
    pub any: bool,
}

impl AllowedOrigins {
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty() && !self.any
    }

    /// Whether the list has exactly this origin: browsers send origins in one form only.
    pub fn holds(&self, origin: &[u8]) -> bool {
        self.listed.iter().any(|listed| listed.as_bytes() == origin)
    }

    /// A list of origins, without `*`.
    fn parse_listed(text: &str) -> Result<Self, String> {
        Self::read(text, false)
    }

    /// A list of origins, with or without `*`.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::read(text, true)
    }

    fn read(text: &str, takes_any: bool) -> Result<Self, String> {
        let mut origins = Self::default();
        for entry in text.split([',', ' ']).filter(|entry| !entry.is_empty()) {
            if entry == "*" && takes_any {
                origins.any = true;
            } else if is_origin(entry) {
                origins.listed.push(entry.to_owned());
            } else {
                let any = if takes_any { ", or *" } else { "" };
                let form = "https://HOST or https://HOST:PORT in small letters, as browsers send it";
                return Err(format!("'{entry}' is not an origin: write {form}{any}"));
            }
        }
        Ok(origins)
    }
}

/// Scheme, host, and a port that is not the scheme's own (RFC 6454 section 6.2).
fn is_origin(text: &str) -> bool {
    let Some((scheme @ ("https" | "http"), rest)) = text.split_once("://") else { return false };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let is_v6 = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let is_host = match is_v6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok_and(|it| it.to_string() == address),
        None => !host.is_empty() && host.bytes().all(is_name),
    };
    let own = if scheme == "https" { "443" } else { "80" };
    let is_port = |port: &str| port != own && port.parse::<u16>().is_ok_and(|it| it.to_string() == port);
    is_host && port.is_none_or(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_browser_sends_is_an_origin() {
        for good in
            ["https://a.example", "http://localhost:3000", "https://[2001:db8::1]:8443", "https://[::1]"]
        {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "a.example",
            "https://",
            "https://A.example",
            "https://a.example/",
            "https://a.example:443",
            "https://a.example:0443",
            "https://a.example:x",
            "https://*.example",
            "ftp://a.example",
            "null",
            "https://[1::0:1]",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_compared_to_the_letter() {
        let origins = AllowedOrigins::parse("https://a.example, http://b.example:81").unwrap_or_default();
        assert!(origins.holds(b"https://a.example") && origins.holds(b"http://b.example:81"));
        assert!(!origins.holds(b"https://a.example.evil") && !origins.holds(b"null") && !origins.any);
        assert!(AllowedOrigins::parse("*").is_ok_and(|origins| origins.any && !origins.holds(b"*")));
        assert!(AllowedOrigins::parse("").is_ok_and(|origins| origins.is_empty()));
        assert!(AllowedOrigins::parse("https://a.example/x").is_err());
        assert!(AllowedOrigins::parse_listed("https://a.example").is_ok());
        assert!(AllowedOrigins::parse_listed("https://a.example, *").is_err());
    }
}
