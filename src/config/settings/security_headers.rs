//! Settings for what answers tell browsers.

/// Headers that say how far a page may be trusted, and who may read answers.
#[derive(Clone, Debug)]
pub struct BrowserSettings {
    pub nosniff: bool,
    /// seconds; `None`: browsers are not told to stay with TLS
    pub hsts: Option<u64>,
    pub frames: Option<FramePolicy>,
    pub referrer: Option<&'static str>,
    /// whether pages get the policy of the profile
    pub policy: bool,
    pub origins: AllowedOrigins,
}

/// Who may show our pages in a frame.
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

    pub(super) fn parse(text: &str) -> Result<Option<Self>, String> {
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

pub(super) fn referrer(text: &str) -> Result<Option<&'static str>, String> {
    let known = REFERRERS.into_iter().find(|known| *known == text);
    if known.is_some() || text.is_empty() {
        Ok(known)
    } else {
        Err(format!("must be empty or one of {}, not '{text}'", REFERRERS.join(", ")))
    }
}

/// Origins whose pages may ask the API and read its answers.
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

    /// Whether it is listed, to the letter: browsers send origins in one form alone.
    pub fn holds(&self, origin: &[u8]) -> bool {
        self.listed.iter().any(|listed| listed.as_bytes() == origin)
    }

    /// A list in which each origin is named.
    pub(super) fn parse_listed(text: &str) -> Result<Self, String> {
        Self::read(text, false)
    }

    /// A list that may say `*`.
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
                return Err(format!("'{entry}' is no origin: write {form}{any}"));
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
