//! The status page: one document with its own style and script. Its values are rendered here, with and without script.

mod backends;
mod chart;
mod html;
mod overview;
mod tables;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use openssl::sha::sha256;

use self::html::Html;
use crate::metrics::report::StatusReport;

const DOCUMENT: &str = include_str!("page.html");
const TITLE: &str = "%TITLE%";
const PAGE: &str = "%PAGE%";

/// The document without its values, and the policy that allows its style and its script.
pub(super) struct StatusPage {
    before_title: &'static str,
    before_page: &'static str,
    after_page: &'static str,
    policy: HeaderValue,
}

impl StatusPage {
    pub(super) fn new() -> Self {
        let (before_title, rest) = DOCUMENT.split_once(TITLE).unwrap_or_default();
        let (before_page, after_page) = rest.split_once(PAGE).unwrap_or_default();
        let [style, script] = ["style", "script"].map(|name| source(DOCUMENT, name));
        let policy = format!(
            "default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { before_title, before_page, after_page, policy }
    }

    /// The `Content-Security-Policy` of the page.
    pub(super) fn policy(&self) -> HeaderValue {
        self.policy.clone()
    }

    pub(super) fn render(&self, report: &StatusReport) -> String {
        let title = Html::of(overview::title(report)).into_string();
        [self.before_title, &title, self.before_page, &render_main(report), self.after_page].concat()
    }
}

/// The hash of the document's element as a source of the policy (CSP level 3, section 2.3.1).
fn source(document: &str, name: &str) -> String {
    let (_, rest) = document.split_once(&format!("<{name}>")).unwrap_or_default();
    let (content, _) = rest.split_once(&format!("</{name}>")).unwrap_or_default();
    format!("'sha256-{}'", BASE64_STANDARD.encode(sha256(content.as_bytes())))
}

/// The values as the page shows them: its header and its sections.
pub(super) fn render_main(report: &StatusReport) -> String {
    let mut html = Html::default();
    overview::header(&mut html, report);
    html.raw("<main>");
    overview::warnings(&mut html, report);
    overview::traffic(&mut html, report);
    backends::daemons(&mut html, report);
    backends::nodes(&mut html, report);
    tables::sessions(&mut html, report);
    tables::certificates(&mut html, report);
    html.raw("<div class=\"halves\">");
    tables::limits(&mut html, report);
    tables::failed_logins(&mut html, report);
    html.raw("</div></main>");
    html.into_string()
}

/// The values as `nodegate status --json` prints them.
pub(super) fn json(report: &StatusReport) -> String {
    serde_json::to_string(report).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::counters::Metrics;

    #[test]
    fn the_document_has_a_place_for_each_part() {
        let page = StatusPage::new();
        for part in [page.before_title, page.before_page, page.after_page] {
            assert!(!part.is_empty());
            assert!(!part.contains(TITLE) && !part.contains(PAGE));
        }
        let text = page.render(&StatusReport::now(&Metrics::default()));
        assert!(text.starts_with("<!doctype html>") && text.ends_with("</html>\n"));
    }

    #[test]
    fn style_and_script_stand_once_and_without_attributes() {
        for name in ["style", "script"] {
            assert_eq!(DOCUMENT.matches(&format!("<{name}")).count(), 1, "{name}");
            assert_eq!(DOCUMENT.matches(&format!("<{name}>")).count(), 1, "{name}");
        }
        assert!(!DOCUMENT.contains(" style=\"") && !DOCUMENT.contains(" onclick="));
        let policy = StatusPage::new().policy();
        assert!(!policy.to_str().unwrap().contains("unsafe"), "{policy:?}");
    }

    #[test]
    fn the_hash_is_that_of_the_content() {
        // printf 'alert(1)' | openssl dgst -sha256 -binary | base64
        let expected = "'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='";
        assert_eq!(source("<p><script>alert(1)</script>", "script"), expected);
    }
}
