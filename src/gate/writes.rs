//! Who may write with a ticket: whoever shows the CSRF token of its user; where none is needed, no page of another origin.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Method};

use super::{Denial, Gate, csrf, fetch_site, unix};
use crate::target::ApiPath;
use crate::watched_file::FileError;

impl Gate {
    pub(super) fn check_csrf(
        &self,
        method: &Method,
        path: &ApiPath,
        headers: &HeaderMap,
        user: &str,
        now: SystemTime,
    ) -> Result<Option<HeaderValue>, Denial> {
        let mut tokens = headers.get_all(&self.csrf_header).iter();
        let token = tokens.next().filter(|token| token.to_str().is_ok());
        if *method == Method::GET || *method == Method::HEAD {
            return Ok(token.cloned());
        }
        if self.csrf_exempt.iter().any(|pattern| pattern.matches(method.as_str(), path.segments())) {
            let is_shared = |origin: &[u8]| self.shared_with.holds(origin);
            let page = fetch_site::foreign_page(headers, is_shared).filter(|_| self.has_cookie(headers));
            return page.map_or(Ok(token.cloned()), |page| Err(page.into()));
        }
        let is_valid = |token: &str| -> Result<bool, FileError> {
            Ok(csrf::is_valid(token, user, &self.csrf_secret.current()?.value, unix(now)))
        };
        let Some(token) = token.filter(|_| tokens.next().is_none()) else { return Err(Denial::Csrf) };
        let text = token.to_str().unwrap_or_default();
        match is_valid(text) {
            Ok(true) => Ok(Some(token.clone())),
            Ok(false) | Err(_) if self.csrf_secret.has_changed() && is_valid(text)? => {
                Ok(Some(token.clone()))
            }
            Ok(false) => Err(Denial::Csrf),
            Err(error) => Err(error.into()),
        }
    }
}
