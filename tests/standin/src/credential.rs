//! The client's credential. The daemon verifies it again and does not rely on the proxy.

use percent_encoding::percent_decode_str;

use crate::answer::Failure;
use crate::daemon::{Config, Product};
use crate::record::Recorded;
use crate::tickets::{now, verify};

/// The one API token: `Authorization: PVEAPIToken` and this, with a blank or `=` between.
pub const API_TOKEN: &str = "root@pam!t=5f0c1a52-0000-4000-8000-000000000001";

const WEEK: i64 = 7 * 86_400;

impl Product {
    pub(crate) fn ticket_prefix(self) -> &'static str {
        match self {
            Self::Pve => "PVE",
            Self::Pmg => "PMG",
        }
    }

    fn cookie(self) -> &'static str {
        match self {
            Self::Pve => "PVEAuthCookie",
            Self::Pmg => "PMGAuthCookie",
        }
    }
}

/// The user, or the 401.
pub(crate) fn user_of(config: &Config, request: &Recorded) -> Result<String, Failure> {
    let cookies = request.all("cookie").join("; ");
    let authorization = request.header("authorization").unwrap_or_default();
    let name = config.product.cookie();
    let ticket = extracted(&cookies, name).or_else(|| extracted(authorization, name));
    if let Some(ticket) = ticket {
        return ticket_user(config, &ticket).ok_or_else(invalid);
    }
    match extracted(authorization, "PVEAPIToken") {
        Some(token) if config.product == Product::Pve && token == API_TOKEN => Ok("root@pam!t".to_owned()),
        Some(_) if config.product == Product::Pve => Err(invalid()),
        _ => Err(Failure::new(401, "No ticket")),
    }
}

/// The user of a full login ticket that is valid now.
pub(crate) fn ticket_user(config: &Config, ticket: &str) -> Option<String> {
    let prefix = config.product.ticket_prefix();
    if let Some(verified) = verify(&config.keys.public, ticket, prefix, "") {
        let half = ["!tfa!", "tfa!", "u2f!"];
        let full = !half.iter().any(|mark| verified.data.starts_with(mark));
        return (full && fresh(verified.time, -300, 7200)).then_some(verified.data);
    }
    if config.product == Product::Pve {
        return None;
    }
    let verified = verify(&config.keys.public, ticket, "PMGQUAR", "")?;
    fresh(verified.time, -20, WEEK).then(|| verified.data + "@quarantine")
}

pub(crate) fn half_ticket_fits(config: &Config, ticket: &str, user: &str) -> bool {
    let prefix = config.product.ticket_prefix();
    verify(&config.keys.public, ticket, prefix, &format!(":{user}"))
        .is_some_and(|verified| verified.data.starts_with("!tfa!") && fresh(verified.time, -300, 7200))
}

pub(crate) fn fresh(time: i64, min: i64, max: i64) -> bool {
    let age = now() - time;
    min < age && age < max
}

/// `(?:^|\s)NAME(?:=| )([^;]*)`, percent-decoded; an empty value and `0` count as none.
fn extracted(header: &str, name: &str) -> Option<String> {
    let (start, _) = header.match_indices(name).find(|&(start, _)| {
        let before = header[..start].chars().next_back();
        let after = header[start + name.len()..].chars().next();
        before.is_none_or(char::is_whitespace) && matches!(after, Some('=' | ' '))
    })?;
    let value = &header[start + name.len() + 1..];
    let value = value.split(';').next().unwrap_or_default();
    let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
    (!value.is_empty() && value != "0").then_some(value)
}

fn invalid() -> Failure {
    Failure::new(401, "Authentication failed!")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_credential_as_the_original_does() {
        for (header, value) in [
            ("PVEAuthCookie=a%3Ab", Some("a:b")),
            ("x=1; PVEAuthCookie=a; y=2", Some("a")),
            ("PVEAuthCookie a", Some("a")),
            ("xPVEAuthCookie=a", None),
            ("xPVEAuthCookie=a; PVEAuthCookie=b", Some("b")),
            ("PVEAuthCookie=", None),
            ("PVEAuthCookie=0", None),
            ("PVEAuthCookies=a", None),
        ] {
            assert_eq!(extracted(header, "PVEAuthCookie").as_deref(), value, "{header}");
        }
    }
}
