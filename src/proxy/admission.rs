//! May this address connect, and who is behind it?

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::access_log::LogEntry;
use crate::limits::LimitExceeded;
use crate::limits::concurrency::ConnectionPermit;
use crate::metrics::counters;
use crate::net::acl::PeerIp;
use crate::net::proxy_protocol;
use crate::proxy::recheck::AdmissionLost;
use crate::proxy::request::ClientAddresses;
use crate::server::WorkerContext;
use crate::state::shared::{AppState, ListenerRules};

/// A connection that may go on.
pub(crate) struct AdmittedConnection {
    pub(crate) stream: TcpStream,
    pub(crate) who: ClientAddresses,
    /// dropped with the connection
    pub(crate) place: ConnectionPermit,
    /// why nothing is served on it
    pub(crate) excess: Option<LimitExceeded>,
}

/// Judges the address, and finds a place. Who gets none is not even told so.
pub(crate) async fn enter(
    worker: &WorkerContext,
    rules: &ListenerRules,
    mut stream: TcpStream,
    address: SocketAddr,
) -> Option<AdmittedConnection> {
    let engine = &worker.engine;
    let via = PeerIp::new(address.ip());
    if !rules.acl.admits(via) {
        turn_away(engine, via, &rules.name, AdmissionLost::AccessList);
        return None;
    }
    let mut place = find_place(engine, rules, via)?;
    let mut who = ClientAddresses { peer: via, via };
    if rules.proxy_protocol {
        who.peer = named(worker, rules, &mut stream, via).await?;
        if !who.is_admitted(rules, engine.config.settings.real_ip.apply_acl) {
            turn_away(engine, who.peer, &rules.name, AdmissionLost::AccessList);
            return None;
        }
        if who.peer != via {
            drop(place);
            place = find_place(engine, rules, who.peer)?;
        }
    }
    let (place, excess) = place;
    Some(AdmittedConnection { stream, who, place, excess })
}

fn find_place(
    engine: &AppState,
    rules: &ListenerRules,
    peer: PeerIp,
) -> Option<(ConnectionPermit, Option<LimitExceeded>)> {
    engine.place(rules, peer).inspect_err(|excess| counters::limited(excess.limit())).ok()
}

/// Whom a proxy connects for. Only those that are listed may say so, and have to.
async fn named(
    worker: &WorkerContext,
    rules: &ListenerRules,
    stream: &mut TcpStream,
    via: PeerIp,
) -> Option<PeerIp> {
    let engine = &worker.engine;
    if !engine.is_proxy(via) {
        tracing::debug!(peer = %via.address(), "not a listed proxy");
        engine.note_refused_node(via, &rules.name, "it is no listed proxy (real_ip.allow_from)");
        refuse(engine, via);
        return None;
    }
    let patience = engine.config.settings.timeout.first_byte;
    let reading = timeout(patience, proxy_protocol::read(stream));
    match worker.stop.run_until_cancelled(reading).await? {
        Ok(Ok(told)) => Some(told.map_or(via, |client| PeerIp::new(client.ip()))),
        Ok(Err(error)) => {
            tracing::debug!(peer = %via.address(), %error, "a proxy named nobody");
            engine.note_refused_node(via, &rules.name, "it sends no PROXY header");
            log_without_request(engine, via, 400);
            None
        }
        Err(_) => {
            tracing::debug!(peer = %via.address(), "no PROXY header came in time");
            log_without_request(engine, via, 408);
            None
        }
    }
}

/// A listener does not admit it: its connection closes without a word.
pub(crate) fn turn_away(engine: &AppState, peer: PeerIp, listener: &str, denied: AdmissionLost) {
    let reason = denied.to_string();
    tracing::debug!(peer = %peer.address(), listener, reason, "turned away");
    engine.note_refused_node(peer, listener, &reason);
    refuse(engine, peer);
}

fn refuse(engine: &AppState, peer: PeerIp) {
    counters::denied();
    log_without_request(engine, peer, 403);
}

/// For what was answered before there was a request.
pub(crate) fn log_without_request(engine: &AppState, peer: PeerIp, status: u16) {
    engine.log.write(&LogEntry::new(peer.address(), "-", status));
}
