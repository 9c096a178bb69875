//! The browser's own headers about the page that sends a request (W3C Fetch Metadata). No page can set them, and no
//! proxy in front has a reason to.

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName, HeaderValue};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// Characters of an origin in messages.
const MAX_SHOWN: usize = 200;

/// A page of another origin, as the browser reports it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a page of another origin may not write here: Sec-Fetch-Site is {site}, Origin is {origin}; \
     allow it with cors.origins"
)]
pub struct ForeignPage {
    pub site: &'static str,
    pub origin: String,
}

/// The page that sends a request, if the browser reports another origin that `is_shared` does not accept.
pub fn foreign_page(headers: &HeaderMap, is_shared: impl Fn(&[u8]) -> bool) -> Option<ForeignPage> {
    let says = |site: &&str| headers.get_all(SEC_FETCH_SITE).iter().any(|line| is(line, site));
    let site = ["cross-site", "same-site"].into_iter().find(says)?;
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = origins.next().map_or(&b"none"[..], |origin| origin.as_bytes());
    if origins.next().is_none() && is_shared(origin) {
        return None;
    }
    let origin = String::from_utf8_lossy(origin).chars().take(MAX_SHOWN).collect();
    Some(ForeignPage { site, origin })
}

/// Whether the answer becomes the page of a window or tab, as after a click on a link. Frames do not count: a page can
/// fill itself with them unseen. Browsers from before 2020 send only the mode.
pub fn is_navigation(headers: &HeaderMap) -> bool {
    let (name, value) = if headers.contains_key(SEC_FETCH_DEST) {
        (SEC_FETCH_DEST, "document")
    } else {
        (SEC_FETCH_MODE, "navigate")
    };
    headers.contains_key(&name) && headers.get_all(&name).iter().all(|line| is(line, value))
}

fn is(line: &HeaderValue, value: &str) -> bool {
    line.as_bytes().trim_ascii().eq_ignore_ascii_case(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANEL: &str = "https://panel.example.com";

    #[test]
    fn only_the_browsers_own_word_counts() {
        let cases: &[(&[&str], &[&str], Option<&str>)] = &[
            (&[], &[], None),
            (&[], &["https://evil.example.com"], None),
            (&["same-origin"], &["https://evil.example.com"], None),
            (&["none"], &[], None),
            (&["something new"], &["https://evil.example.com"], None),
            (&["cross-site"], &["https://evil.example.com"], Some("cross-site")),
            (&["cross-site"], &["null"], Some("cross-site")),
            (&["cross-site"], &[], Some("cross-site")),
            (&["Cross-Site "], &[], Some("cross-site")),
            (&["same-site"], &["https://other.example.com"], Some("same-site")),
            (&["same-origin", "cross-site"], &[], Some("cross-site")),
            (&["cross-site"], &[PANEL], None),
            (&["same-site"], &[PANEL], None),
            (&["cross-site"], &[PANEL, PANEL], Some("cross-site")),
        ];
        for (sites, origins, expected) in cases {
            let mut headers = HeaderMap::new();
            for site in *sites {
                headers.append(SEC_FETCH_SITE, HeaderValue::from_str(site).unwrap());
            }
            for origin in *origins {
                headers.append(ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            let found = foreign_page(&headers, |origin| origin == PANEL.as_bytes());
            assert_eq!(found.map(|page| page.site), *expected, "{sites:?} {origins:?}");
        }
    }

    #[test]
    fn frames_and_images_are_no_navigation() {
        let cases: &[(&[&str], &[&str], bool)] = &[
            (&["navigate"], &["document"], true),
            (&["Navigate"], &[" Document"], true),
            (&["navigate"], &[], true),
            (&["navigate"], &["iframe"], false),
            (&["navigate"], &["object"], false),
            (&["no-cors"], &["image"], false),
            (&["no-cors"], &["empty"], false),
            (&["no-cors"], &[], false),
            (&["navigate"], &["document", "iframe"], false),
            (&["navigate", "no-cors"], &[], false),
            (&[], &[], false),
        ];
        for (modes, dests, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, values) in [(SEC_FETCH_MODE, modes), (SEC_FETCH_DEST, dests)] {
                for value in *values {
                    headers.append(&name, HeaderValue::from_str(value).unwrap());
                }
            }
            assert_eq!(is_navigation(&headers), *expected, "{modes:?} {dests:?}");
        }
    }
}
