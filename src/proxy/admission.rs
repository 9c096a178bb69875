//! Admission of a connection: its address, its permit, and the client that a PROXY header names.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::access_log::LogEntry;
use crate::limits::concurrency::AcquiredConnection;
use crate::net::acl::PeerIp;
use crate::net::proxy_protocol;
use crate::proxy::worker_context::WorkerContext;
use crate::state::client_connection::{Admission, AdmissionLost, ClientAddresses};
use crate::state::shared::{AppState, ListenerRules};

/// A connection of a listener, with the listener's rules and the configuration in effect.
pub struct AcceptedConnection {
    pub stream: TcpStream,
    pub address: SocketAddr,
    pub context: Rc<WorkerContext>,
    pub rules: Arc<ListenerRules>,
}

/// A connection that nodegate serves, or answers with the limit that it exceeds.
pub struct AdmittedConnection {
    pub context: Rc<WorkerContext>,
    pub rules: Arc<ListenerRules>,
    pub stream: TcpStream,
    pub addresses: ClientAddresses,
    pub admission: Admission,
}

/// Verifies the address and takes a permit. A connection without a permit closes without an answer.
pub async fn admit(accepted: AcceptedConnection) -> Option<AdmittedConnection> {
    let AcceptedConnection { mut stream, address, context, rules } = accepted;
    let state = &context.state;
    let peer = PeerIp::new(address.ip());
    if !rules.settings.acl.admits(peer) {
        reject_client(state, peer, &rules.settings.name, AdmissionLost::AccessList);
        return None;
    }
    let mut acquired = acquire_permit(state, &rules, peer)?;
    let mut addresses = ClientAddresses { client: peer, peer };
    if rules.settings.proxy_protocol {
        addresses.client = read_proxy_header(&context, &rules, &mut stream, peer).await?;
        if !addresses.is_admitted(&rules, state.config.settings.real_ip.apply_acl) {
            reject_client(state, addresses.client, &rules.settings.name, AdmissionLost::AccessList);
            return None;
        }
        if addresses.client != peer {
            drop(acquired);
            acquired = acquire_permit(state, &rules, addresses.client)?;
        }
    }
    let AcquiredConnection { permit, exceeded } = acquired;
    let unauthenticated =
        Arc::new(state.register_unauthenticated(&rules, addresses.client, exceeded.is_none()));
    let admission = Admission { permit, exceeded, unauthenticated, generation: context.generation };
    Some(AdmittedConnection { context, rules, stream, addresses, admission })
}

fn acquire_permit(state: &AppState, rules: &ListenerRules, peer: PeerIp) -> Option<AcquiredConnection> {
    state
        .acquire_connection(rules, peer)
        .inspect_err(|exceeded| state.metrics.count_limit(exceeded.limit()))
        .ok()
}

/// The client that a trusted proxy connects for. Every connection of such a listener begins with a PROXY header.
async fn read_proxy_header(
    context: &WorkerContext,
    rules: &ListenerRules,
    stream: &mut TcpStream,
    peer: PeerIp,
) -> Option<PeerIp> {
    let state = &context.state;
    if !state.is_proxy(peer) {
        tracing::debug!(peer = %peer.address(), "not a listed proxy");
        state.note_refused_node(peer, &rules.settings.name, "it is not a listed proxy (real_ip.allow_from)");
        log_denied(state, peer);
        return None;
    }
    let limit = state.config.settings.timeout.first_byte;
    let reading = timeout(limit, proxy_protocol::read(stream));
    match context.stop.run_until_cancelled(reading).await? {
        Ok(Ok(client)) => Some(client.map_or(peer, |client| PeerIp::new(client.ip()))),
        Ok(Err(error)) => {
            tracing::debug!(peer = %peer.address(), %error, "no valid PROXY header");
            state.note_refused_node(peer, &rules.settings.name, "it sends no PROXY header");
            log_without_request(state, peer, 400);
            None
        }
        Err(_) => {
            tracing::debug!(peer = %peer.address(), "no PROXY header before the deadline");
            log_without_request(state, peer, 408);
            None
        }
    }
}

/// Logs and counts a client that a listener does not admit. Its connection closes without an answer.
pub(super) fn reject_client(state: &AppState, peer: PeerIp, listener: &str, lost: AdmissionLost) {
    let reason = lost.to_string();
    tracing::debug!(peer = %peer.address(), listener, reason, "connection rejected");
    state.note_refused_node(peer, listener, &reason);
    log_denied(state, peer);
}

fn log_denied(state: &AppState, peer: PeerIp) {
    state.metrics.acl_denied.inc();
    log_without_request(state, peer, 403);
}

/// The access log's line for a connection that ends before a request.
pub(super) fn log_without_request(state: &AppState, peer: PeerIp, status: u16) {
    state.log.write(&LogEntry::new(peer.address(), "-", status));
}
