//! Sends the same CONNECT to the node that has the guest: over TLS to its HTTPS port, or in plaintext.
//!
//! nodegate uses plaintext if the settings say so, or if the node rejects CONNECT over TLS. That answer comes over a
//! connection with the node's pinned certificate, so an attacker between the nodes cannot cause the fallback.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::StatusCode;
use nodegate_spice::head::{connect_request, read_until_parsed};
use nodegate_spice::{ConnectHead, HeadError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::either::Either;

use super::rules::TunnelRules;
use crate::handler::tunnel::endpoint::{TunnelEndpoint, UpstreamEndpoint, enable_keepalive, plain_endpoint};
use crate::handler::tunnel::error::TunnelError;
use crate::http::reason_phrase::{reason_of, utf8_or_latin1};
use crate::net::acl::PeerIp;
use crate::state::shared::AppState;
use crate::upstream::body_decoder::{BodyDecoder, DecodedPiece};
use crate::upstream::nodes::NodeTable;
use crate::upstream::peer::PeerNode;
use crate::upstream::response_head::{self, ResponseHead};

/// A node that rejected CONNECT over TLS gets plaintext requests for this time.
const FALLBACK_TTL: Duration = Duration::from_mins(5);

/// Bytes of an error body that are read for the viewer.
const MAX_REFUSAL_BYTES: usize = 2048;
/// For that body. It is optional, because the head has the status and the reason.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Nodes that do not accept CONNECT over TLS, with the time of their answer.
#[derive(Default)]
pub(super) struct PlaintextFallbackCache(Mutex<HashMap<String, Instant>>);

impl PlaintextFallbackCache {
    fn contains(&self, node: &str, now: Instant) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(node).is_some_and(|since| now.saturating_duration_since(*since) < FALLBACK_TTL)
    }

    fn insert(&self, node: &str, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned(), now);
    }
}

/// Another node, as the next hop of a tunnel.
pub(super) struct NextHop<'a> {
    pub(super) state: &'a AppState,
    pub(super) rules: &'a TunnelRules,
    pub(super) nodes: &'a NodeTable,
    /// as the cluster spells it
    pub(super) node: &'a str,
    /// its plaintext listener for tunnels
    pub(super) plaintext_address: SocketAddr,
}

impl NextHop<'_> {
    /// The node's name and address, for messages.
    pub(super) fn describe(&self) -> String {
        format!("node '{}' at {}", self.node, self.plaintext_address)
    }

    /// Sends `CONNECT` over TLS, or in plaintext to a node that does not accept that. The caller sets the deadline.
    pub(super) async fn connect(
        &self,
        head: &ConnectHead,
        peer: PeerIp,
    ) -> Result<UpstreamEndpoint, TunnelError> {
        let names = &self.rules.names;
        let client = peer.address().to_string();
        let headers = [(names.loop_header.as_str(), "true"), (names.client_header.as_str(), &client)];
        let request =
            connect_request(&head.target, &headers).map_err(|error| TunnelError::from_head_error(&error))?;
        let plaintext_nodes = &self.rules.plaintext_nodes;
        if self.rules.peer_tls && !plaintext_nodes.contains(self.node, Instant::now()) {
            if let Some(upstream) = self.connect_tls(&request, peer).await? {
                return Ok(upstream);
            }
            plaintext_nodes.insert(self.node, Instant::now());
            tracing::info!(
                "node '{}' does not accept CONNECT over TLS; using plaintext for {} minutes",
                self.node,
                FALLBACK_TTL.as_secs() / 60
            );
        }
        let peer_name = self.describe();
        let connected = TcpStream::connect(self.plaintext_address).await;
        let stream = connected.map_err(|error| connect_error(&peer_name, &error))?;
        let _ = stream.set_nodelay(true);
        let answer = self.send_connect(plain_endpoint(stream), &request, &peer_name).await?;
        match answer.head.response.status() {
            StatusCode::OK => Ok(answer.upstream),
            _ => Err(self.read_error(answer).await),
        }
    }

    /// `None` if the node does not accept CONNECT over TLS. Every other failure is an error.
    async fn connect_tls(
        &self,
        request: &[u8],
        client: PeerIp,
    ) -> Result<Option<UpstreamEndpoint>, TunnelError> {
        let settings = &self.state.config.settings;
        let (pins, context) = (&self.state.pins, &self.state.client_context);
        let peer = PeerNode::find(self.node, settings.cluster_port, self.nodes, pins, context)
            .map_err(|cause| TunnelError::Pin { node: self.node.to_owned(), cause })?;
        let peer =
            if settings.cluster_proxy_protocol { peer.with_proxy_header(client.address()) } else { peer };
        let (peer_name, limit) = (peer.to_string(), settings.timeout.connect);
        let stream = match timeout(limit, peer.connect()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((_, cause))) => return Err(TunnelError::Connect { to: peer_name, cause }),
            Err(_) => return Err(TunnelError::ConnectTimeout { to: peer_name, limit }),
        };
        enable_keepalive(stream.get_ref());
        let stream: TunnelEndpoint = Either::Right(Box::new(stream));
        let answer = self.send_connect(stream, request, &peer_name).await?;
        match answer.head.response.status().as_u16() {
            200 => Ok(Some(answer.upstream)),
            400 | 405 | 501 => Ok(None),
            _ => Err(self.read_error(answer).await),
        }
    }

    async fn send_connect(
        &self,
        mut stream: TunnelEndpoint,
        request: &[u8],
        peer_name: &str,
    ) -> Result<NextHopAnswer, TunnelError> {
        let sent = async {
            stream.write_all(request).await?;
            stream.flush().await
        };
        sent.await.map_err(|error| connect_error(peer_name, &error))?;
        let mut early = BytesMut::new();
        let take = |buffer: &mut _| {
            response_head::take_any(buffer).map_err(|_| HeadError::Malformed("no response of HTTP/1"))
        };
        let head = read_until_parsed(&mut stream, &mut early, self.rules.limits.bytes, take).await;
        let head = head
            .map_err(|error| TunnelError::Connect { to: peer_name.to_owned(), cause: error.to_string() })?;
        let name = format!("a machine of node {}", self.node);
        Ok(NextHopAnswer { head, upstream: UpstreamEndpoint { name, stream, early } })
    }

    /// The node's reason phrase and body as an error.
    async fn read_error(&self, answer: NextHopAnswer) -> TunnelError {
        let NextHopAnswer { head, mut upstream } = answer;
        let reading = read_text(head.framing.into(), &mut upstream);
        let body = timeout(REFUSAL_TIMEOUT, reading).await.unwrap_or_default();
        let status = head.response.status();
        let reason = reason_of(status, head.response.extensions());
        TunnelError::NextHop { node: self.node.to_owned(), status: status.as_u16(), reason, body }
    }
}

/// A node's answer to CONNECT, and the stream behind it.
struct NextHopAnswer {
    head: ResponseHead,
    upstream: UpstreamEndpoint,
}

/// The beginning of an error body as text. A body that breaks off is read as far as it came.
async fn read_text(mut rest: BodyDecoder, upstream: &mut UpstreamEndpoint) -> String {
    let mut body = Vec::new();
    while body.len() < MAX_REFUSAL_BYTES {
        match rest.take(&mut upstream.early) {
            Ok(DecodedPiece::Piece(piece)) => body.extend_from_slice(&piece),
            Ok(DecodedPiece::Nothing) => match upstream.stream.read_buf(&mut upstream.early).await {
                Ok(1..) => (),
                Ok(0) | Err(_) => break,
            },
            Ok(DecodedPiece::End) | Err(_) => break,
        }
    }
    body.truncate(MAX_REFUSAL_BYTES);
    let text = utf8_or_latin1(&body).replace(char::is_control, " ");
    text.trim().to_owned()
}

pub(super) fn connect_error(peer_name: &str, error: &io::Error) -> TunnelError {
    TunnelError::Connect { to: peer_name.to_owned(), cause: error.kind().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_fallback_lasts_some_minutes() {
        let (known, now) = (PlaintextFallbackCache::default(), Instant::now());
        assert!(!known.contains("n2", now));
        known.insert("n2", now);
        assert!(known.contains("n2", now + FALLBACK_TTL.saturating_sub(Duration::from_secs(1))));
        assert!(!known.contains("n3", now));
        assert!(!known.contains("n2", now + FALLBACK_TTL));
    }
}
