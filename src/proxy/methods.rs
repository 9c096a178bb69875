//! The methods of API calls and of files.

use http::header::ALLOW;
use http::{HeaderValue, Method, Response, StatusCode};

use crate::http::body::{self, ResponseBody};
use crate::http::error::ResponseError;

pub(crate) const API_METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";
pub(crate) const FILE_METHODS: &str = "GET, HEAD, OPTIONS";

pub(crate) fn allowed(methods: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

pub(crate) fn check_api_method(method: &Method) -> Result<(), ResponseError> {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE => Ok(()),
        _ => Err(ResponseError::MethodUnknown(method.clone())),
    }
}
