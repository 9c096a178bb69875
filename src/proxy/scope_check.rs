//! Checks of a request at a listener with a route scope: whether it is in the scope, and whether its user may log in.

use std::net::IpAddr;
use std::time::Instant;

use http::header::CONTENT_TYPE;
use serde::Deserialize;

use crate::auth::authenticator::AuthenticatedUser;
use crate::fs::cached_file::FileError;
use crate::http::error::ResponseError;
use crate::http::request_body::RequestBody;
use crate::http::target::{ApiPath, query_parameters};
use crate::limits::call_rate::CountedCalls;
use crate::os::log_limit::{self, LogTopic};
use crate::proxy::buffered_body::{self, SenderTrust};
use crate::proxy::incoming_request::IncomingRequest;
use crate::proxy::login_guard::check_limit_before_body;
use crate::proxy::router::Route;
use crate::state::route_scope::{LoginClaim, RouteScope};

/// Rejects a call outside of the route scope, before authentication.
pub(super) fn check_call(request: &IncomingRequest, path: &ApiPath) -> Result<(), ResponseError> {
    let IncomingRequest { context, client, scope, head, .. } = request;
    let method = &head.method;
    if scope.as_ref().is_none_or(|scope| scope.has_call(method, path)) {
        return Ok(());
    }
    let state = &context.state;
    if state.header_names.is_looped(&head.headers) {
        state.note_refused_node(
            client.client_ip,
            &client.listener(),
            "the listener serves a route scope only",
        );
    }
    Err(ResponseError::NotHere(format!("{method} {}", path.joined())))
}

/// Rejects a page or file outside of the route scope as missing.
pub(super) fn check_file(
    scope: Option<&RouteScope>,
    route: &Route,
    path: &str,
    query: &str,
) -> Result<(), ResponseError> {
    let Some(scope) = scope else { return Ok(()) };
    let belongs = matches!(route, Route::Page) && scope.has_page(path, query)
        || matches!(route, Route::Static(located) if scope.has_file(located.url()));
    if belongs { Ok(()) } else { Err(ResponseError::NotFound(path.to_owned())) }
}

/// Verifies the kind of ticket and the rate of the call.
pub fn check_client(
    scope: &RouteScope,
    request: &IncomingRequest,
    path: &ApiPath,
    identity: &AuthenticatedUser,
    real: IpAddr,
) -> Result<(), ResponseError> {
    let state = &request.context.state;
    if let Some(known) = identity.client.as_ref().filter(|known| !scope.takes(known.kind())) {
        tracing::debug!(user = &*known.user, "a credential that is not taken at this listener");
        let reason = state
            .authenticator
            .as_ref()
            .map_or_else(String::new, |authenticator| authenticator.invalid_reason().to_owned());
        return Err(ResponseError::InvalidTicket(reason));
    }
    if let Some((call, limit)) = scope.limit(&request.head.method, path)
        && let Some(address) = state.rate_limit_key(request.client.client_ip, real)
    {
        let calls = CountedCalls::of_scope(call, address);
        state.limiters.calls.count(calls, limit, Instant::now())?;
    }
    Ok(())
}

/// Verifies that the user of a login belongs to the scope's realm. Only the body names the realm.
pub(super) async fn check_login(
    scope: &RouteScope,
    request: &IncomingRequest,
    path: &ApiPath,
    body: &mut Option<RequestBody>,
) -> Result<(), ResponseError> {
    let head = &request.head;
    let Some(rule) = scope.login_rule(&head.method, path) else { return Ok(()) };
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    check_limit_before_body(request, None, body.as_ref())?;
    let whole = buffered_body::peek(request, SenderTrust::Unauthenticated, body).await?;
    let claim = match kind.as_str() {
        "application/x-www-form-urlencoded" => {
            std::str::from_utf8(&whole).ok().and_then(LoginClaim::from_form)
        }
        "application/json" => json_claim(&whole),
        _ => None,
    };
    let has_query = head.uri.query().is_some_and(|query| !query.is_empty());
    let admitted = match claim {
        Some(claim) if !has_query => rule.admits(&claim).map_err(|error| realms_unreadable(&error))?,
        Some(_) | None => false,
    };
    if admitted { Ok(()) } else { Err(ResponseError::OtherRealm { realm: rule.realm.clone() }) }
}

fn realms_unreadable(error: &FileError) -> ResponseError {
    let message = format_args!("the list of realms cannot be read; refusing the login: {error}");
    log_limit::error(LogTopic::Fault, "realms", &message);
    ResponseError::Internal("the list of realms cannot be read".to_owned())
}

/// The user that JSON names. A daemon without JSON would parse a form instead, which must name no user.
fn json_claim(whole: &[u8]) -> Option<LoginClaim> {
    let says = |name: &str| matches!(name, "username" | "realm");
    let text = std::str::from_utf8(whole).ok()?;
    if query_parameters(text).any(|(name, _)| says(&name)) {
        return None;
    }
    let JsonClaim { username, realm } = serde_json::from_str(text).ok()?;
    Some(LoginClaim { user: username, realm })
}

/// serde rejects a name that occurs twice.
#[derive(Deserialize)]
struct JsonClaim {
    username: String,
    realm: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_readable_as_a_form_claims_nothing() {
        let claim = |text: &str| json_claim(text.as_bytes()).map(|claim| claim.user);
        assert_eq!(claim(r#"{"username":"a@quarantine","password":"x&y"}"#), Some("a@quarantine".to_owned()));
        for text in [
            r#"{"username":"a@quarantine","username":"root@pam"}"#,
            r#"{"username":"a@quarantine","password":"&username=root@pam&password=x&y="}"#,
            r#"{"username":"a@quarantine","realm":1}"#,
            "username=a@quarantine",
            "[]",
        ] {
            assert_eq!(claim(text), None, "{text}");
        }
    }
}
