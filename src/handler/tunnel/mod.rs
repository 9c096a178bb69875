//! `CONNECT` with a signed ticket: to a port of this node, or to the tunnel listener of another node.

mod endpoint;
mod error;
mod next_hop;
mod rules;
mod upstream_endpoint;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use nodegate_spice::head::read_head;
use nodegate_spice::{ConnectHead, HeadError, ticket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

pub use self::endpoint::{OpenTunnel, TunnelEndpoint, TunnelWorker, enable_keepalive, plain_endpoint};
use self::error::TunnelError;
pub use self::rules::TunnelRules;
use crate::http::access_log::LogEntry;
use crate::metrics::counters::FinishedResponse;
use crate::metrics::labels::RequestDestination;
use crate::net::acl::PeerIp;
use crate::os::log_limit::{self, LogTopic};
use crate::os::log_text::shortened;
use crate::state::client_connection::ClientConnection;
use crate::state::shared::AppState;
use crate::time::lingering_close::lingering_close;

/// For a client to read the error.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection on which the client may request a tunnel.
pub struct TunnelClient<'a> {
    pub stream: TunnelEndpoint,
    /// bytes that were already read from it
    pub early: Vec<u8>,
    pub client: &'a ClientConnection,
    /// deadline of the request head
    pub until: Instant,
}

/// A request for the log and the metrics.
struct ConnectRequest {
    line: String,
    minor_version: u8,
    /// when its head had arrived
    started: Option<Instant>,
}

impl ConnectRequest {
    fn new(head: &ConnectHead) -> Self {
        let line = format!("{} {} HTTP/1.{}", head.method, ticket::mask(&head.target), head.minor_version);
        Self { line, minor_version: head.minor_version, started: Some(Instant::now()) }
    }

    /// No whole head arrived.
    fn unread() -> Self {
        Self { line: "-".to_owned(), minor_version: 0, started: None }
    }
}

/// Reads the request head, connects the upstream and answers 200. `None` if there is no tunnel; the client has its
/// answer.
pub async fn open(
    state: &AppState,
    rules: &TunnelRules,
    caller: &mut TunnelClient<'_>,
) -> Option<OpenTunnel> {
    let head = match timeout_at(caller.until, read_connect_head(caller, rules)).await {
        Ok(Ok(head)) => head,
        Ok(Err(HeadError::Closed | HeadError::Io(_))) => return None,
        Ok(Err(error)) => {
            let error = TunnelError::from_head_error(&error);
            return refuse(state, caller, &ConnectRequest::unread(), error).await;
        }
        Err(_) => return refuse(state, caller, &ConnectRequest::unread(), TunnelError::HeadTimeout).await,
    };
    let request = ConnectRequest::new(&head);
    let upstream = match caller.client.exceeded() {
        Some(exceeded) => Err(exceeded.into()),
        None => upstream_endpoint::connect_upstream(state, rules, &head, caller.client).await,
    };
    match upstream {
        Ok(upstream) => {
            log_request(state, caller.client.client_ip, &request, 200, None);
            let accepted = format!("HTTP/1.{} 200 OK\r\n\r\n", request.minor_version);
            caller.stream.write_all(accepted.as_bytes()).await.ok()?;
            caller.stream.flush().await.ok()?;
            let idle = state.config.settings.timeout.tunnel;
            let sessions = Arc::clone(&state.metrics.sessions);
            Some(OpenTunnel { upstream, early: head.early, idle, sessions })
        }
        Err(error) => refuse(state, caller, &request, error).await,
    }
}

/// Reads the request head, first from the bytes that were already read.
async fn read_connect_head(
    caller: &mut TunnelClient<'_>,
    rules: &TunnelRules,
) -> Result<ConnectHead, HeadError> {
    let mut before = caller.early.as_slice();
    let mut reader = (&mut before).chain(&mut caller.stream);
    let mut head = read_head(&mut reader, &rules.limits, &rules.names).await?;
    head.early.extend_from_slice(before);
    Ok(head)
}

/// Logs the error and sends it to the client. Always `None`: there is no tunnel.
async fn refuse<T>(
    state: &AppState,
    caller: &mut TunnelClient<'_>,
    request: &ConnectRequest,
    error: TunnelError,
) -> Option<T> {
    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
    let status = error.status();
    if let TunnelError::Limit(exceeded) = error {
        state.metrics.count_limit(exceeded.limit());
    }
    let TunnelClient { stream, client, .. } = caller;
    let peer = client.client_ip;
    let address = peer.address();
    if !(error.is_failed_login() && state.login_limit_key(peer, address).is_some()) {
        let message = format!("tunnel refused to {address} with {status}: {error}{cause}");
        let message = shortened(&message, 2 * log_limit::MAX_CLIENT_TEXT_BYTES);
        log_limit::warn(LogTopic::Tunnel, &log_limit::site(address).to_string(), &message);
    }
    log_request(state, peer, request, status, u64::try_from(error.to_string().len()).ok());
    lingering_close(stream, &error.encode_response(request.minor_version), CLOSE_TIMEOUT).await;
    None
}

fn log_request(state: &AppState, peer: PeerIp, request: &ConnectRequest, status: u16, bytes: Option<u64>) {
    let destination = RequestDestination::Tunnel;
    state.metrics.count_response(FinishedResponse {
        destination,
        status,
        bytes: 0,
        started: request.started.map(Instant::into_std),
    });
    state.log.write(&LogEntry { bytes, ..LogEntry::new(peer.address(), &request.line, status) });
}
