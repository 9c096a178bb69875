//! Connects the upstream that a ticket names: a port of this node, or the tunnel listener of another node.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use nodegate_spice::{ConnectHead, Target};
use tokio::time::{Instant, timeout};

use super::rules::TunnelRules;
use crate::handler::tunnel::endpoint::{UpstreamEndpoint, plain_endpoint};
use crate::handler::tunnel::error::TunnelError;
use crate::handler::tunnel::next_hop::{NextHop, connect_error};
use crate::limits::login_throttle;
use crate::limits::shares::ListenerShare;
use crate::net::acl::PeerIp;
use crate::os::log_text::shortened;
use crate::state::client_connection::ClientConnection;
use crate::state::shared::AppState;
use crate::upstream::loopback::connect_port;

/// Viewers time out after 10 s. The second hop must answer before the first hop's timeout.
const FIRST_HOP_TIMEOUT: Duration = Duration::from_secs(8);
const SECOND_HOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a method in an answer and in the log.
const MAX_METHOD_BYTES: usize = 32;

/// Verifies the request and its ticket, and connects to the ticket's target.
pub(super) async fn connect_upstream(
    state: &AppState,
    rules: &TunnelRules,
    head: &ConnectHead,
    client: &ClientConnection,
) -> Result<UpstreamEndpoint, TunnelError> {
    let peer = client.client_ip;
    if head.method != "CONNECT" {
        return Err(TunnelError::Method(shortened(&head.method, MAX_METHOD_BYTES).into_owned()));
    }
    // HTTP/1.0 has no Host (RFC 9112 section 3.2); ncat, socat and Python's http.client send none. The ticket is in the
    // target.
    let needs_host = head.minor_version > 0 || head.host.is_some();
    if needs_host && head.host.as_deref() != Some(&head.target) {
        return Err(TunnelError::HostDiffers);
    }
    let target = match rules.verify(&head.target) {
        Err(refusal) if refusal.is_forged_ticket() => {
            return Err(
                delay_failed_login(state, peer, &state.listener_share(&client.listener()), refusal).await
            );
        }
        verified => verified?,
    };
    client.trust.set_authenticated();
    if rules.is_here(&target.node) {
        let limit = if head.looped { SECOND_HOP_TIMEOUT } else { FIRST_HOP_TIMEOUT };
        return with_timeout(limit, &format!("port {}", target.port), connect_local(&target)).await;
    }
    if head.looped {
        return Err(TunnelError::Loop);
    }
    let mut nodes = state.nodes.get().map_err(TunnelError::Nodes)?;
    if nodes.find(&target.node).is_none() && state.nodes.refresh() {
        nodes = state.nodes.get().map_err(TunnelError::Nodes)?;
    }
    let (node, address) =
        nodes.find(&target.node).ok_or_else(|| TunnelError::UnknownNode(nodes.unknown(&target.node)))?;
    let address = address.ok_or_else(|| TunnelError::NoAddress(node.to_owned()))?;
    let hop = NextHop {
        state,
        rules,
        nodes: &nodes,
        node,
        plaintext_address: SocketAddr::new(address, rules.peer_port),
    };
    let place = if rules.peer_tls { format!("node '{node}'") } else { hop.describe() };
    with_timeout(FIRST_HOP_TIMEOUT, &place, hop.connect(head, peer)).await
}

/// Counts a forged ticket as a failed login of its address. The first few are answered at once, as viewers expect it.
async fn delay_failed_login(
    state: &AppState,
    peer: PeerIp,
    at: &ListenerShare,
    refusal: TunnelError,
) -> TunnelError {
    let Some(address) = state.login_limit_key(peer, peer.address()) else { return refusal };
    let limit = state.config.settings.limits.login_failures;
    let (began, logins) = (Instant::now(), &state.limiters.logins);
    let failed = logins.count_failure(address, limit);
    let cause = refusal.source().map_or_else(String::new, |cause| format!(": {cause}"));
    login_throttle::log_auth_failure(address, None, format_args!("{refusal}{cause}"));
    let held = match failed {
        Ok(()) => logins.hold_back_repeated(at, address, began).await,
        Err(_) => Err(logins.hold_back_refused(at, address, limit, began).await),
    };
    held.map_or_else(TunnelError::Limit, |()| refusal)
}

async fn with_timeout<F>(limit: Duration, to: &str, connecting: F) -> Result<UpstreamEndpoint, TunnelError>
where
    F: Future<Output = Result<UpstreamEndpoint, TunnelError>>,
{
    timeout(limit, connecting)
        .await
        .unwrap_or_else(|_| Err(TunnelError::ConnectTimeout { to: to.to_owned(), limit }))
}

async fn connect_local(target: &Target) -> Result<UpstreamEndpoint, TunnelError> {
    let Target { vmid, port, .. } = *target;
    let connected = connect_port(port).await;
    let stream = connected.map_err(|error| connect_error(&format!("port {port}"), &error))?;
    let name = format!("machine {vmid}, port {port}");
    Ok(UpstreamEndpoint { name, stream: plain_endpoint(stream), early: BytesMut::new() })
}
