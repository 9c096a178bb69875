//! Headers for browsers: how far they may trust a page, and which pages of other origins may read an answer.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, InvalidHeaderValue, ORIGIN, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Method};

use crate::config::settings::{AllowedOrigins, BrowserSettings, FramePolicy};
use crate::http::api_grammar::ApiGrammar;

const PREFLIGHT_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
/// Seconds for which a browser caches a preflight answer.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("600");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// The values, encoded once.
pub struct BrowserHeaders {
    nosniff: bool,
    /// only over TLS
    hsts: Option<HeaderValue>,
    frames: Option<FramePolicy>,
    referrer: Option<HeaderValue>,
    /// for pages, the part about frames included
    policy: Option<HeaderValue>,
    origins: AllowedOrigins,
    api: ApiGrammar,
    /// request headers that a page of another origin may send
    request_headers: HeaderValue,
}

impl BrowserHeaders {
    /// `policy` is the product's policy for its pages, `csrf_header` the header of its CSRF token.
    pub fn new(
        settings: &BrowserSettings,
        policy: Option<&str>,
        csrf_header: Option<&str>,
        api: ApiGrammar,
    ) -> Result<Self, InvalidHeaderValue> {
        let ancestors = settings.frames.map(|frames| match frames {
            FramePolicy::Deny => "frame-ancestors 'none'",
            FramePolicy::SameOrigin => "frame-ancestors 'self'",
        });
        let policy = policy.filter(|_| settings.policy);
        let whole: Vec<_> = policy.into_iter().chain(ancestors).collect();
        let policy = (!whole.is_empty()).then(|| HeaderValue::try_from(whole.join("; "))).transpose()?;
        let headers: Vec<_> = ["Authorization", "Content-Type"].into_iter().chain(csrf_header).collect();
        Ok(Self {
            nosniff: settings.nosniff,
            hsts: settings
                .hsts
                .map(|seconds| HeaderValue::try_from(format!("max-age={seconds}")))
                .transpose()?,
            frames: settings.frames,
            referrer: settings.referrer.map(HeaderValue::from_static),
            policy,
            origins: settings.origins.clone(),
            api,
            request_headers: HeaderValue::try_from(headers.join(", "))?,
        })
    }

    /// Adds the headers of an answer to this request. `is_own` is true for contents that no daemon sent.
    pub fn add_to(&self, headers: &mut HeaderMap, request: &Parts, over_tls: bool, is_own: bool) {
        if self.nosniff {
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        if let Some(hsts) = self.hsts.as_ref().filter(|_| over_tls) {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        if let Some(frames) = self.frames {
            headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static(frames.name()));
        }
        if let Some(referrer) = &self.referrer {
            headers.insert(REFERRER_POLICY, referrer.clone());
        }
        if let Some(policy) = self.policy.as_ref().filter(|_| is_own && is_page(headers)) {
            headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
        }
        if over_tls && self.api.is_in_api(request.uri.path()) {
            self.share(headers, request);
        }
    }

    /// Lets a listed origin send the request and read the answer.
    fn share(&self, headers: &mut HeaderMap, request: &Parts) {
        if self.origins.is_empty() {
            return;
        }
        headers.append(VARY, HeaderValue::from_static("Origin"));
        let mut asking = request.headers.get_all(ORIGIN).iter();
        let Some(origin) = asking.next().filter(|_| asking.next().is_none()) else { return };
        if self.origins.holds(origin.as_bytes()) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        } else if self.origins.any {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            return;
        }
        if request.method == Method::OPTIONS && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, PREFLIGHT_METHODS);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.request_headers.clone());
            headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE);
        }
    }
}

fn is_page(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"))
}
