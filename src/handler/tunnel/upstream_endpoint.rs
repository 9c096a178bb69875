//! Where a ticket leads: a port of this node, or the same door of another one.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nodegate_spice::{ConnectHead, Target};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::rules::TunnelRules;
use crate::handler::tunnel::endpoint::{FarEnd, TunnelEndpoint};
use crate::handler::tunnel::error::TunnelError;
use crate::handler::tunnel::next_hop::NextHop;
use crate::limits::login_throttle;
use crate::limits::shares::ListenerShare;
use crate::net::acl::PeerIp;
use crate::os::log_text::shortened;
use crate::proxy::request::ClientConnection;
use crate::state::shared::AppState;

/// Viewers give up after 10 s; a hop behind another one must be done before that one gives up.
const FIRST_HOP: Duration = Duration::from_secs(8);
const SECOND_HOP: Duration = Duration::from_secs(5);
/// In an answer and in the log; a client may send thousands.
const MAX_METHOD_BYTES: usize = 32;

/// Judges what was asked for, and connects to where it leads.
pub(super) async fn reach(
    engine: &AppState,
    rules: &TunnelRules,
    head: &ConnectHead,
    client: &ClientConnection,
) -> Result<FarEnd, TunnelError> {
    let peer = client.peer;
    if head.method != "CONNECT" {
        return Err(TunnelError::Method(shortened(&head.method, MAX_METHOD_BYTES).into_owned()));
    }
    if head.host.as_deref() != Some(&head.target) {
        return Err(TunnelError::HostDiffers);
    }
    let target = match rules.judge(&head.target) {
        Err(refusal) if refusal.is_guess() => {
            return Err(held_back(engine, peer, &engine.at(&client.listener()), refusal).await);
        }
        judged => judged?,
    };
    client.trust.show();
    if rules.is_here(&target.node) {
        let limit = if head.looped { SECOND_HOP } else { FIRST_HOP };
        return within(limit, &format!("port {}", target.port), connect_here(&target)).await;
    }
    if head.looped {
        return Err(TunnelError::Loop);
    }
    let mut nodes = engine.nodes.current().map_err(TunnelError::Nodes)?;
    if nodes.find(&target.node).is_none() && engine.nodes.has_changed() {
        nodes = engine.nodes.current().map_err(TunnelError::Nodes)?;
    }
    let (node, address) =
        nodes.find(&target.node).ok_or_else(|| TunnelError::UnknownNode(nodes.unknown(&target.node)))?;
    let address = address.ok_or_else(|| TunnelError::NoAddress(node.to_owned()))?;
    let hop =
        NextHop { engine, rules, nodes: &nodes, node, there: SocketAddr::new(address, rules.peer_port) };
    let place = if rules.peer_tls { format!("node '{node}'") } else { hop.place() };
    within(FIRST_HOP, &place, hop.connect(head, peer)).await
}

/// A forged ticket is a failed login of its address: the first few are answered at once, as viewers expect it.
async fn held_back(engine: &AppState, peer: PeerIp, at: &ListenerShare, refusal: TunnelError) -> TunnelError {
    let Some(address) = engine.counted(peer, peer.address()) else { return refusal };
    let limit = engine.config.settings.limits.login_failures;
    let (began, logins) = (Instant::now(), &engine.counts.logins);
    let failed = logins.failed(address, limit);
    let cause = refusal.source().map_or_else(String::new, |cause| format!(": {cause}"));
    login_throttle::tell(address, None, format_args!("{refusal}{cause}"));
    let held = match failed {
        Ok(()) => logins.hold_back_repeated(at, address, began).await,
        Err(_) => Err(logins.hold_back_refused(at, address, limit, began).await),
    };
    held.map_or_else(TunnelError::Excess, |()| refusal)
}

async fn within<F>(limit: Duration, to: &str, connecting: F) -> Result<FarEnd, TunnelError>
where
    F: Future<Output = Result<FarEnd, TunnelError>>,
{
    timeout(limit, connecting)
        .await
        .unwrap_or_else(|_| Err(TunnelError::ConnectTimeout { to: to.to_owned(), limit }))
}

/// The machine listens on the loopback address of the node's family: IPv4 first, then IPv6.
async fn connect_here(target: &Target) -> Result<FarEnd, TunnelError> {
    let Target { vmid, port, .. } = *target;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        match TcpStream::connect((address, port)).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                let name = format!("machine {vmid}, port {port}");
                return Ok(FarEnd { name, stream: TunnelEndpoint::plain(stream), early: Vec::new() });
            }
            Err(error) => last = error,
        }
    }
    Err(TunnelError::Connect { to: format!("port {port}"), cause: last.kind().to_string() })
}
