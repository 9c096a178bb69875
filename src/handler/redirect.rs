//! Plain HTTP on the TLS port gets a redirect to `https://`.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Response};

use crate::http::body::ResponseBody;
use crate::http::error;
use crate::http::error::ResponseError;

/// Redirects to the same path and query on the request's `Host`.
pub fn to_https(head: &Parts) -> Result<Response<ResponseBody>, ResponseError> {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if host.is_empty() {
        return Err(ResponseError::BadRequest("this port speaks TLS; use https://"));
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    HeaderValue::try_from(format!("https://{host}{path}"))
        .map(|location| error::redirect(&head.method, location))
        .map_err(|_| ResponseError::BadRequest("malformed Host header"))
}
