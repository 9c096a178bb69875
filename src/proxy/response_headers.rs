//! What every answer gets, whoever gave it.

use http::header::{CONNECTION, ETAG};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, Version};

use super::framing;
use crate::auth::authenticator::AuthError;
use crate::handler::trace_headers;
use crate::http::access_log::LogDetails;
use crate::http::body::ResponseBody;
use crate::http::error;
use crate::http::error::{ErrorFormat, ResponseError};
use crate::http::logged_body::{FileAnswer, RequestRecord};
use crate::http::reason_phrase;
use crate::http::validate;
use crate::metrics::labels::RequestDestination;
use crate::os::request_context;
use crate::proxy::request::ClientConnection;
use crate::server::WorkerContext;

/// What every answer gets, and what its line in the log says of it.
pub(crate) fn complete(
    (worker, client): (&WorkerContext, &ClientConnection),
    (head, form): (&Parts, ErrorFormat),
    response: &mut Response<ResponseBody>,
    record: &mut RequestRecord,
) {
    let engine = &worker.engine;
    if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS) {
        record.user = None; // only the daemon knows whether an API token is good
    }
    let ends = worker.retiring.is_cancelled() || client.is_orphan();
    if ends && !response.headers().contains_key(CONNECTION) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    framing::settle(head, response, engine.backend_headers.is_looped(&head.headers));
    if engine.log.is_detailed() {
        record.details = request_context::current(|context| {
            Box::new(LogDetails::of(context, client.tls.clone(), client.listener()))
        });
    }
    if head.version == Version::HTTP_2 {
        reason_phrase::tell(response, &head.method, form);
    }
    trace_headers::add_request_number(&engine.config.settings.tracing, response);
    let is_file = response.extensions().get::<FileAnswer>().is_some();
    let cacheable = is_file || response.headers().contains_key(ETAG);
    engine.common.add_to(response, cacheable, validate::keeps_alive(head.version, &head.headers));
    let is_own = matches!(record.destination, RequestDestination::Page | RequestDestination::File);
    engine.common.browser.add_to(response.headers_mut(), head, client.tls.is_some(), is_own);
}

/// The answer to a refused request.
pub(crate) fn refuse(
    refusal: ResponseError,
    form: ErrorFormat,
    login_page: Option<&str>,
) -> Response<ResponseBody> {
    tracing::debug!(status = refusal.status().as_u16(), reason = %refusal, "refused");
    if let (
        Some(location),
        ResponseError::Denied(AuthError::NoCredential) | ResponseError::InvalidTicket(_),
    ) = (login_page, &refusal)
    {
        return error::to_login_page(location);
    }
    refusal.into_response(form)
}
