//! Requests that may be login attempts: by a password, a second factor, an API token or a ticket. Failures are
//! counted for the client's address. Its answers are delayed more and more, and in the end its credentials are no
//! longer verified.
//!
//! A wrong CSRF token is no attempt, because its client has a valid ticket. Neither is an expired ticket: browsers
//! keep sending yesterday's cookie.

use std::net::IpAddr;
use std::time::SystemTime;

use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::auth::authenticator::{AuthError, AuthenticatedUser, PageLogin, PageVisitor, TicketClient};
use crate::auth::credential_cache::CachedCredential;
use crate::http::error::ResponseError;
use crate::http::request_body::RequestBody;
use crate::http::target::ApiPath;
use crate::limits::failure_table::ClientKey;
use crate::limits::{LimitExceeded, login_throttle};
use crate::os::log_limit::{self, LogTopic};
use crate::proxy::buffered_body;
use crate::proxy::incoming_request::IncomingRequest;
use crate::state::shared::AppState;

/// Whether the daemon verifies the credential: a login call, or an API token that it has not seen yet.
pub(super) fn is_login_attempt(
    state: &AppState,
    method: &Method,
    path: &ApiPath,
    identity: &AuthenticatedUser,
) -> bool {
    state.login_proof(method, path).is_some()
        || identity.client.as_ref().is_some_and(|known| known.is_unverified())
}

/// Caches the daemon's verdict on an API token.
pub(super) fn set_token_verified(state: &AppState, known: &CachedCredential, good: bool) {
    if let Some(authenticator) = &state.authenticator {
        authenticator.set_verified(known, good);
    }
}

/// Rejects an address over its limit before a large body is read. A small body is read, because it names the user for
/// the log.
pub(super) fn check_limit_before_body(
    request: &IncomingRequest,
    user: Option<&str>,
    body: Option<&RequestBody>,
) -> Result<(), LimitExceeded> {
    let state = &request.context.state;
    let Some(address) = state
        .login_limit_key(request.client.client_ip, request.real)
        .filter(|_| !buffered_body::is_small(body))
    else {
        return Ok(());
    };
    let limit = state.config.settings.limits.login_failures;
    state
        .limiters
        .logins
        .check(address, limit)
        .inspect_err(|exceeded| login_throttle::log_auth_failure(address, user, exceeded))
}

/// The user of a page. A forged ticket counts as a failed login, but the page is answered at once: the browser needs
/// it to log in, and the cookie may be older than a reinstallation.
pub fn page_login(request: &IncomingRequest, query: &str) -> Option<PageLogin> {
    let IncomingRequest { context, client, scope, head, real, .. } = request;
    let state = &context.state;
    let limit_key = state.login_limit_key(client.client_ip, *real);
    let ticket_client = ticket_client(state, limit_key);
    let takes = |kind| scope.as_ref().is_none_or(|scope| scope.takes(kind));
    let now = SystemTime::now();
    match state.authenticator.as_ref()?.page_visitor(&head.headers, query, ticket_client, now, takes) {
        PageVisitor::User(login) => return Some(login),
        PageVisitor::Anonymous => (),
        PageVisitor::Forger => {
            if let Some(address) = limit_key {
                let _ = count_forged(state, address);
            }
        }
    }
    None
}

/// The client of a ticket, by the address that its failures count for.
pub(super) fn ticket_client(state: &AppState, limit_key: Option<IpAddr>) -> TicketClient {
    let limit = state.config.settings.limits.login_failures;
    TicketClient {
        source: limit_key.map(ClientKey::from_address),
        is_refused: limit_key.is_some_and(|address| state.limiters.logins.check(address, limit).is_err()),
    }
}

/// Counts a forged ticket.
///
/// # Errors
/// The address was over the limit before.
fn count_forged(state: &AppState, address: IpAddr) -> Result<(), LimitExceeded> {
    let failed = state.limiters.logins.count_failure(address, state.config.settings.limits.login_failures);
    login_throttle::log_auth_failure(address, None, "invalid ticket");
    failed
}

/// The error for a client that is not authenticated. A forged ticket counts as a failed login of the address
/// `limit_key`.
pub(super) fn auth_error(
    state: &AppState,
    denial: AuthError,
    limit_key: impl FnOnce() -> Option<IpAddr>,
) -> ResponseError {
    tracing::debug!(%denial, "credential refused");
    let exceeded = match denial {
        AuthError::Ticket(error) if !error.is_guess() => None,
        AuthError::Ticket(_) | AuthError::ApiToken => {
            limit_key().and_then(|address| count_forged(state, address).err())
        }
        // It was counted before.
        AuthError::SameTicket(_) | AuthError::Unverified => limit_key().and_then(|address| {
            let limit = state.config.settings.limits.login_failures;
            let exceeded = state.limiters.logins.check(address, limit).err()?;
            login_throttle::log_auth_failure(address, None, "invalid ticket");
            Some(exceeded)
        }),
        AuthError::KeyFile(error) => {
            log_limit::error(
                LogTopic::Fault,
                "tickets",
                &format_args!("tickets cannot be verified: {error}"),
            );
            return AuthError::KeyFile(error).into();
        }
        AuthError::NoCredential | AuthError::Csrf | AuthError::ForeignPage(_) => {
            return denial.into();
        }
    };
    if let Some(exceeded) = exceeded {
        return exceeded.into();
    }
    let reason = state
        .authenticator
        .as_ref()
        .map_or_else(String::new, |authenticator| authenticator.invalid_reason().to_owned());
    ResponseError::InvalidTicket(reason)
}

/// Delays a 401, and the answer to an address that is over its limit. If too many answers are delayed, the client
/// gets another error at once.
pub(super) async fn delay_error(
    request: &IncomingRequest,
    error: ResponseError,
    address: IpAddr,
    began: Instant,
) -> ResponseError {
    let IncomingRequest { context, client, .. } = request;
    let state = &context.state;
    let logins = &state.limiters.logins;
    let at = &state.listener_share(&client.listener());
    let limit_key = || state.login_limit_key(client.client_ip, address);
    if let ResponseError::LimitExceeded(LimitExceeded::Failures { .. }) = error
        && let Some(address) = limit_key()
    {
        let limit = state.config.settings.limits.login_failures;
        return logins.hold_back_refused(at, address, limit, began).await.into();
    }
    if error.status() != StatusCode::UNAUTHORIZED {
        return error;
    }
    let held = logins.hold_back(at, limit_key(), began).await;
    held.map_or_else(ResponseError::LimitExceeded, |()| error)
}
