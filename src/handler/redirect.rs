//! Redirects to `https://` and to the login page.

use http::header::{CONNECTION, HOST, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

use crate::http::body::{self, ResponseBody};
use crate::http::error::ResponseError;

/// Redirects a request in plain HTTP on the TLS port to the same path and query on its `Host`. `301` is for methods
/// that the client may repeat as GET, `308` for the rest (RFC 9110 section 15.4).
pub fn to_https(head: &Parts) -> Result<Response<ResponseBody>, ResponseError> {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if host.is_empty() {
        return Err(ResponseError::BadRequest("this port speaks TLS; use https://"));
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let location = HeaderValue::try_from(format!("https://{host}{path}"))
        .map_err(|_| ResponseError::BadRequest("malformed Host header"))?;
    let mut response = Response::new(body::empty());
    *response.status_mut() = if matches!(head.method, Method::GET | Method::HEAD) {
        StatusCode::MOVED_PERMANENTLY
    } else {
        StatusCode::PERMANENT_REDIRECT
    };
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// Redirects a browser without a valid login to the page where its user can log in.
pub fn to_login_page(location: &str) -> Response<ResponseBody> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().extend(HeaderValue::try_from(location).ok().map(|value| (LOCATION, value)));
    response
}
