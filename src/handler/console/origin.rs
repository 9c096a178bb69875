//! Verifies the origin of the page that opens a console. A browser adds the cookie to the calls of any page, and names
//! the page's origin.
//!
//! Only the console's own page knows the console's ticket, and the daemon verifies it. That proves more than an origin.
//! So by default the ticket is enough, as it is for the original proxies.

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

use crate::config::settings::AllowedOrigins;
use crate::net::web_origin::{HostPort, WebOrigin};

/// Characters of an origin in a message.
const MAX_SHOWN_CHARS: usize = 200;

/// The parts of a console call that decide on its origin.
pub struct ConsoleCall<'a> {
    pub headers: &'a HeaderMap,
    /// whether the credential is a cookie
    pub by_cookie: bool,
    /// whether the call brings a ticket for this console
    pub has_own_ticket: bool,
    /// the hosts that trusted proxies report
    pub forwarded: Vec<HostPort>,
}

/// An origin that is not ours, and the origins that would be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a page of another origin may not open a console: Origin is {}, this is {own}; \
     allow it with console.origins",
    origin.escape_debug()
)]
pub struct ForeignOrigin {
    pub origin: String,
    pub own: String,
}

/// Decides by the listed origins (`console.origins`). `Ok(Some(…))` is a foreign origin that is accepted because the
/// call has the console's own ticket.
pub fn check_origin(
    listed: &AllowedOrigins,
    call: &ConsoleCall<'_>,
) -> Result<Option<ForeignOrigin>, ForeignOrigin> {
    // A browser adds only cookies by itself. A page that has another credential can send it without a browser.
    let Some(foreign) = foreign_origin(listed, call).filter(|_| call.by_cookie) else { return Ok(None) };
    if call.has_own_ticket && listed.is_empty() { Ok(Some(foreign)) } else { Err(foreign) }
}

fn foreign_origin(listed: &AllowedOrigins, call: &ConsoleCall<'_>) -> Option<ForeignOrigin> {
    let mut lines = call.headers.get_all(ORIGIN).iter();
    let origin = lines.next()?;
    let host = call.headers.get(HOST).and_then(|host| HostPort::parse(host.to_str().ok()?));
    let own: Vec<_> = host.into_iter().chain(call.forwarded.iter().cloned()).collect();
    let named = origin.to_str().ok().and_then(WebOrigin::parse).filter(|_| lines.next().is_none());
    let is_own = named.is_some_and(|named| {
        own.iter().any(|place| named.is_at(place)) || listed.holds(named.canonical().as_bytes())
    });
    if is_own {
        return None;
    }
    let own: Vec<_> = own.iter().map(|place| format!("https://{place}")).collect();
    Some(ForeignOrigin {
        origin: truncate(&String::from_utf8_lossy(origin.as_bytes())),
        own: truncate(&own.join(" or ")),
    })
}

fn truncate(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const OWN: &str = "https://node1:8006";
    const PANEL: &str = "https://panel.example.com";
    const EVIL: &str = "https://evil.example.com";

    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum OriginVerdict {
        Opens,
        Logged,
        Refused,
    }

    fn verdict(list: &str, origins: &[&str], by_cookie: bool, has_own_ticket: bool) -> OriginVerdict {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("node1:8006"));
        for origin in origins {
            headers.append(ORIGIN, HeaderValue::from_bytes(origin.as_bytes()).unwrap());
        }
        let forwarded = vec![HostPort::parse("front.example.com").unwrap()];
        let call = ConsoleCall { headers: &headers, by_cookie, has_own_ticket, forwarded };
        match check_origin(&AllowedOrigins::parse(list).unwrap(), &call) {
            Ok(None) => OriginVerdict::Opens,
            Ok(Some(_)) => OriginVerdict::Logged,
            Err(_) => OriginVerdict::Refused,
        }
    }

    #[test]
    fn credential_ticket_and_list_decide() {
        use OriginVerdict::{Logged, Opens, Refused};
        // origin; with a cookie: own ticket and no list, own ticket and a list, no ticket and no list, no ticket and a list
        let cases = [
            (&[][..], [Opens; 4]),
            (&[OWN], [Opens; 4]),
            (&["http://node1:8006"], [Opens; 4]),
            (&["wss://node1:8006"], [Opens; 4]),
            (&["https://front.example.com"], [Opens; 4]),
            (&[PANEL], [Logged, Opens, Refused, Opens]),
            (&["wss://panel.example.com:443"], [Logged, Opens, Refused, Opens]),
            (&["http://panel.example.com"], [Logged, Refused, Refused, Refused]),
            (&[EVIL], [Logged, Refused, Refused, Refused]),
            (&["https://node1"], [Logged, Refused, Refused, Refused]),
            (&["null"], [Logged, Refused, Refused, Refused]),
            (&["\u{e9}"], [Logged, Refused, Refused, Refused]),
            (&[OWN, OWN], [Logged, Refused, Refused, Refused]),
        ];
        for (origins, expected) in cases {
            let ways = [(true, ""), (true, PANEL), (false, ""), (false, PANEL)];
            let by_cookie = ways.map(|(ticket, list)| verdict(list, origins, true, ticket));
            assert_eq!(by_cookie, expected, "{origins:?} with a cookie");
            let by_token = ways.map(|(ticket, list)| verdict(list, origins, false, ticket));
            assert_eq!(by_token, [Opens; 4], "{origins:?} with a token");
        }
    }

    #[test]
    fn a_refusal_cuts_a_long_origin() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("node1:8006"));
        headers.insert(ORIGIN, HeaderValue::from_str(&format!("https://{}", "a".repeat(5000))).unwrap());
        let call =
            ConsoleCall { headers: &headers, by_cookie: true, has_own_ticket: false, forwarded: vec![] };
        assert!(check_origin(&AllowedOrigins::default(), &call).unwrap_err().to_string().len() < 600);
    }
}
