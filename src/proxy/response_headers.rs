//! The headers of every answer.

use http::header::{CONNECTION, ETAG};
use http::{HeaderValue, Response, StatusCode, Version};

use super::framing;
use crate::handler::{redirect, trace_headers};
use crate::http::access_log::LogDetails;
use crate::http::body::ResponseBody;
use crate::http::error::{ErrorFormat, ResponseError};
use crate::http::logged_body::{FileAnswer, RequestRecord};
use crate::http::reason_phrase;
use crate::http::validate;
use crate::metrics::labels::RequestDestination;
use crate::os::request_context;
use crate::proxy::incoming_request::IncomingRequest;

/// Adds the headers of every answer, and fills in the log record.
pub fn complete(
    request: &IncomingRequest,
    form: ErrorFormat,
    response: &mut Response<ResponseBody>,
    record: &mut RequestRecord,
) {
    let IncomingRequest { context, client, head, .. } = request;
    let state = &context.state;
    if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS) {
        record.user = None; // only the daemon knows whether an API token is good
    }
    let ends = context.draining.is_cancelled() || client.listener_removed();
    if ends && !response.headers().contains_key(CONNECTION) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    framing::settle(head, response, state.header_names.is_looped(&head.headers));
    if state.log.is_detailed() {
        record.details = request_context::current(|context| {
            Box::new(LogDetails::from_context(context, client.tls.clone(), client.listener()))
        });
    }
    if head.version == Version::HTTP_2 {
        reason_phrase::add_status_message(response, &head.method, form);
    }
    trace_headers::add_request_number(&state.config.settings.tracing, response);
    let is_file = response.extensions().get::<FileAnswer>().is_some();
    let cacheable = is_file || response.headers().contains_key(ETAG);
    state.common_headers.add_to(response, cacheable, validate::keeps_alive(head.version, &head.headers));
    let is_own = matches!(record.destination, RequestDestination::Page | RequestDestination::File);
    state.common_headers.browser.add_to(response.headers_mut(), head, client.tls.is_some(), is_own);
}

/// The response to an error: a redirect to the login page for browsers without a valid login, else the error.
pub fn refuse(error: ResponseError, request: &IncomingRequest, form: ErrorFormat) -> Response<ResponseBody> {
    tracing::debug!(status = error.status().as_u16(), reason = %error, "request failed");
    let authenticator = request.context.state.authenticator.as_ref();
    match (
        authenticator.and_then(|authenticator| {
            authenticator.login_page(&request.context.state.api, request.head.uri.path())
        }),
        &error,
    ) {
        (Some(location), ResponseError::NoCredential | ResponseError::InvalidTicket(_)) => {
            redirect::to_login_page(location)
        }
        _ => error.into_response(form, &request.context.state.metrics),
    }
}
