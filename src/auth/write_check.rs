//! Writes need the CSRF token of the ticket's user. Calls that need none are closed to pages of other origins.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Method};

use super::csrf;
use super::fetch_site::{self, ForeignPage};
use crate::auth::authenticator::{AuthError, Authenticator};
use crate::fs::cached_file::FileError;
use crate::http::target::ApiPath;
use crate::os::unix_time::unix_time;

impl Authenticator {
    pub(super) fn check_csrf(
        &self,
        method: &Method,
        path: &ApiPath,
        headers: &HeaderMap,
        user: &str,
        now: SystemTime,
    ) -> Result<Option<HeaderValue>, AuthError> {
        let mut tokens = headers.get_all(&self.csrf_header).iter();
        let token = tokens.next().filter(|token| token.to_str().is_ok());
        if is_read(method) {
            return Ok(token.cloned());
        }
        if self.csrf_exempt.iter().any(|pattern| pattern.matches(method.as_str(), path.segments())) {
            let page = self.foreign_page(headers).filter(|_| self.has_cookie(headers));
            return page.map_or(Ok(token.cloned()), |page| Err(page.into()));
        }
        let is_valid = |token: &str| -> Result<bool, FileError> {
            Ok(csrf::is_valid(token, user, &self.csrf_secret.get()?.value, &self.rules.csrf, unix_time(now)))
        };
        let Some(token) = token.filter(|_| tokens.next().is_none()) else { return Err(AuthError::Csrf) };
        let text = token.to_str().unwrap_or_default();
        match is_valid(text) {
            Ok(true) => Ok(Some(token.clone())),
            Ok(false) | Err(_) if self.csrf_secret.refresh() && is_valid(text)? => Ok(Some(token.clone())),
            Ok(false) => Err(AuthError::Csrf),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses what a foreign page makes a browser send to a call that needs no login: a wrong password would count
    /// for the address of its visitor. The redirect of an identity provider is a navigation that reads.
    pub(super) fn check_page_of_login(
        &self,
        method: &Method,
        path: &ApiPath,
        headers: &HeaderMap,
    ) -> Result<(), AuthError> {
        let is_harmless = is_read(method)
            && (self.login_proof(method, path).is_none() || fetch_site::is_navigation(headers));
        match self.foreign_page(headers) {
            Some(page) if !is_harmless => Err(page.into()),
            Some(_) | None => Ok(()),
        }
    }

    /// The page that sends a request, if it is of another origin and `cors.origins` does not list it.
    pub(super) fn foreign_page(&self, headers: &HeaderMap) -> Option<ForeignPage> {
        fetch_site::foreign_page(headers, |origin| self.shared_with.holds(origin))
    }
}

fn is_read(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}
