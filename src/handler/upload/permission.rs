//! The permission to upload. nodegate asks the daemon before it reads a byte of the body.

use bytes::Bytes;
use http::{Method, StatusCode, response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{UploadError, UploadHandler, UploadRequest, read_answer};
use crate::http::body::ResponseBody;
use crate::http::error::ResponseError;
use crate::http::reason_phrase::reason_of;
use crate::upstream::scheduler::{CallTemplate, ScheduledCall};
use crate::verdict::AnswerView;
use crate::verdict::permission::is_granted;

/// Succeeds if the user has the profile's privilege.
pub(super) async fn check_permission(
    uploads: &UploadHandler,
    upload: &UploadRequest<'_>,
) -> Result<(), ResponseError> {
    let (state, rules) = (upload.state, &uploads.rules);
    let object = uploads.routes.fill(&rules.permission_path, &upload.path.joined());
    let object = object.ok_or(ResponseError::NoSuchUri)?;
    let query = utf8_percent_encode(&object, NON_ALPHANUMERIC);
    let target = state.api.json_target(&rules.permissions).ok_or(ResponseError::NoSuchUri)?;
    let mut head = upload.head.clone();
    head.method = Method::GET;
    let schedule = Box::new(permission_call(upload, &rules.permissions, &object));
    let call = upload.call(&head, format!("{target}?path={query}"), Bytes::new(), schedule);
    let answer = call.send(state, &upload.upstreams.daemon, None).await?;
    let (head, ()) = answer.response.into_parts();
    let body = read_answer(state, ResponseBody::streamed(answer.body)).await.unwrap_or_default();
    if head.status != StatusCode::OK {
        return Err(permissions_error(&head));
    }
    let answer = AnswerView { status: head.status, headers: &head.headers, body: Some(&body) };
    if is_granted(&answer, &object, &rules.privilege) {
        if let (Some(authenticator), Some(known)) = (&state.authenticator, &upload.identity.client) {
            // This answer verifies an API token. The file may take long, so the result is stored now.
            authenticator.set_verified(known, true);
        }
        return Ok(());
    }
    Err(UploadError::Denied { path: object, privilege: rules.privilege.clone() }.into())
}

/// The call for the permission takes the turn of the upload's client.
fn permission_call(upload: &UploadRequest<'_>, permissions: &str, object: &str) -> ScheduledCall {
    let template = CallTemplate::new(format!("GET {permissions}").into());
    let ScheduledCall { group, connection, .. } = *upload.schedule;
    ScheduledCall::new(group, template, object, connection, false)
}

/// A login that the daemon rejects gets 401, so that clients log in again.
fn permissions_error(head: &response::Parts) -> ResponseError {
    let reason = reason_of(head.status, &head.extensions);
    if head.status == StatusCode::UNAUTHORIZED {
        return ResponseError::InvalidTicket(reason);
    }
    let is_error = head.status.is_client_error() || head.status.is_server_error();
    let status = if is_error { head.status } else { StatusCode::BAD_GATEWAY };
    UploadError::PermissionsUnknown { status, reason }.into()
}
