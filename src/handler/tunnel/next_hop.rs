//! The same CONNECT, repeated to the node that has the machine: over TLS to its HTTPS port, or in the clear.
//!
//! In the clear goes what the settings do not want over TLS, and what a node has refused over TLS: the certificate that is
//! pinned for it vouches for the refusal, so that nobody between the nodes can bring that about.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nodegate_spice::head::{connect_request, read_refusal, read_response};
use nodegate_spice::{ConnectHead, ResponseHead};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::rules::TunnelRules;
use crate::handler::tunnel::endpoint::{FarEnd, TunnelEndpoint, keep_alive};
use crate::handler::tunnel::error::TunnelError;
use crate::net::acl::PeerIp;
use crate::state::shared::AppState;
use crate::upstream::nodes::NodeTable;
use crate::upstream::peer::PeerNode;

/// A node that has taken no CONNECT over TLS is not asked for it again.
const REMEMBERED: Duration = Duration::from_mins(5);

/// Bytes of the body of a refusal that are read for the viewer.
const MAX_REFUSAL_BYTES: usize = 2048;
/// For that body; the head has told the most important already.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Nodes that take no CONNECT on their HTTPS port, and since when that is known.
#[derive(Default)]
pub(super) struct InTheClear(Mutex<HashMap<String, Instant>>);

impl InTheClear {
    fn holds(&self, node: &str, now: Instant) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(node).is_some_and(|since| now.saturating_duration_since(*since) < REMEMBERED)
    }

    fn note(&self, node: &str, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned(), now);
    }
}

/// The way to another node.
pub(super) struct NextHop<'a> {
    pub(super) engine: &'a AppState,
    pub(super) rules: &'a TunnelRules,
    pub(super) nodes: &'a NodeTable,
    /// as the cluster spells it
    pub(super) node: &'a str,
    /// its port for tunnels alone
    pub(super) there: SocketAddr,
}

impl NextHop<'_> {
    /// For people.
    pub(super) fn place(&self) -> String {
        format!("node '{}' at {}", self.node, self.there)
    }

    /// The caller puts the deadline around it.
    pub(super) async fn connect(&self, head: &ConnectHead, peer: PeerIp) -> Result<FarEnd, TunnelError> {
        let names = &self.rules.names;
        let client = peer.address().to_string();
        let headers = [(names.loop_header.as_str(), "true"), (names.client_header.as_str(), &client)];
        let request =
            connect_request(&head.target, &headers).map_err(|error| TunnelError::of_head(&error))?;
        let in_the_clear = &self.rules.in_the_clear;
        if self.rules.peer_tls && !in_the_clear.holds(self.node, Instant::now()) {
            if let Some(far_end) = self.connect_sealed(&request, peer).await? {
                return Ok(far_end);
            }
            in_the_clear.note(self.node, Instant::now());
            tracing::info!(
                node = self.node,
                "it takes no CONNECT on its HTTPS port: asked in the clear for a while"
            );
        }
        let place = self.place();
        let stream = TcpStream::connect(self.there).await.map_err(|error| failed(&place, &error))?;
        let _ = stream.set_nodelay(true);
        match self.ask(TunnelEndpoint::plain(stream), &request, &place).await? {
            (ResponseHead { status: 200, .. }, far_end) => Ok(far_end),
            (head, far_end) => Err(self.refused(head, far_end).await),
        }
    }

    /// `None` where the node knows no CONNECT there. Whatever else goes wrong is an error.
    async fn connect_sealed(&self, request: &[u8], client: PeerIp) -> Result<Option<FarEnd>, TunnelError> {
        let settings = &self.engine.config.settings;
        let (pins, context) = (&self.engine.pins, &self.engine.client_context);
        let there = PeerNode::find(self.node, settings.cluster_port, self.nodes, pins, context)
            .map_err(|cause| TunnelError::Pin { node: self.node.to_owned(), cause })?;
        let there = if settings.cluster_proxy_protocol { there.told(client.address()) } else { there };
        let (place, limit) = (there.to_string(), settings.timeout.connect);
        let stream = match timeout(limit, there.connect()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((_, cause))) => return Err(TunnelError::Connect { to: place, cause }),
            Err(_) => return Err(TunnelError::ConnectTimeout { to: place, limit }),
        };
        keep_alive(stream.get_ref());
        match self.ask(TunnelEndpoint::Sealed(Box::new(stream)), request, &place).await? {
            (ResponseHead { status: 200, .. }, far_end) => Ok(Some(far_end)),
            (ResponseHead { status: 400 | 405 | 501, .. }, _) => Ok(None),
            (head, far_end) => Err(self.refused(head, far_end).await),
        }
    }

    async fn ask(
        &self,
        mut stream: TunnelEndpoint,
        request: &[u8],
        place: &str,
    ) -> Result<(ResponseHead, FarEnd), TunnelError> {
        let sent = async {
            stream.write_all(request).await?;
            stream.flush().await
        };
        sent.await.map_err(|error| failed(place, &error))?;
        match read_response(&mut stream, &self.rules.limits).await {
            Ok((head, early)) => {
                Ok((head, FarEnd { name: format!("a machine of node {}", self.node), stream, early }))
            }
            Err(error) => Err(TunnelError::Connect { to: place.to_owned(), cause: error.to_string() }),
        }
    }

    /// What the node says in its phrase and its body.
    async fn refused(&self, head: ResponseHead, mut far_end: FarEnd) -> TunnelError {
        let early = std::mem::take(&mut far_end.early);
        let reading = read_refusal(&mut far_end.stream, &head, early, MAX_REFUSAL_BYTES);
        let body = timeout(REFUSAL_TIMEOUT, reading).await.unwrap_or_default();
        let ResponseHead { status, reason, .. } = head;
        TunnelError::NextHop { node: self.node.to_owned(), status, reason, body }
    }
}

fn failed(place: &str, error: &io::Error) -> TunnelError {
    TunnelError::Connect { to: place.to_owned(), cause: error.kind().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_asked_in_the_clear_for_some_minutes_only() {
        let (known, now) = (InTheClear::default(), Instant::now());
        assert!(!known.holds("n2", now));
        known.note("n2", now);
        assert!(known.holds("n2", now + REMEMBERED.saturating_sub(Duration::from_secs(1))));
        assert!(!known.holds("n3", now));
        assert!(!known.holds("n2", now + REMEMBERED));
    }
}
