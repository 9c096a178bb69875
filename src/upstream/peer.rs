//! Another node of the cluster: HTTPS to its own port, with a pinned certificate.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Instant;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVerifyMode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::nodes::NodeTable;
use crate::net::proxy_protocol;
use crate::tls::STREAM_MODE;
use crate::upstream::certificate_pins::{CertificatePins, ExpectedPins, Fingerprint, PinError};
use crate::upstream::client::{FailurePhase, io_message};

/// Begins the cause if a node shows another certificate than its own.
pub const CERTIFICATE_FAULT: &str = "certificate verify failed";

/// A node to connect to, and the certificates that it may present.
#[derive(Clone)]
pub struct PeerNode {
    node: String,
    address: SocketAddr,
    expected: ExpectedPins,
    context: SslContext,
    /// the client in a PROXY header before TLS
    client: Option<IpAddr>,
}

/// Why nodegate cannot connect to a node.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("node '{0}' has no address yet: it has not been seen in the cluster")]
    NoAddress(String),
    #[error("node '{node}': {source}")]
    Pin { node: String, source: PinError },
}

impl PeerError {
    pub fn node(&self) -> &str {
        match self {
            Self::NoAddress(node) | Self::Pin { node, .. } => node,
        }
    }
}

/// A context for connections to other nodes. It verifies neither chain nor name: `connect` compares the fingerprint
/// before the first byte of a request.
pub fn client_context() -> Result<SslContext, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_mode(STREAM_MODE);
    Ok(builder.build())
}

impl PeerNode {
    /// The node `name`, which `table` knows, on `port`.
    pub fn find(
        name: &str,
        port: u16,
        table: &NodeTable,
        pins: &CertificatePins,
        context: &SslContext,
    ) -> Result<Self, PeerError> {
        let address = table.nodes.get(name).copied().flatten();
        let address = address.ok_or_else(|| PeerError::NoAddress(name.to_owned()))?;
        let expected = pins
            .expected(name, table, Instant::now())
            .map_err(|source| PeerError::Pin { node: name.to_owned(), source })?;
        let address = SocketAddr::new(address, port);
        Ok(Self { node: name.to_owned(), address, expected, context: context.clone(), client: None })
    }

    /// Sends a PROXY header with this client first.
    #[must_use]
    pub fn with_proxy_header(self, client: IpAddr) -> Self {
        Self { client: Some(client), ..self }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Whether a connection to one node can serve the other.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.address == other.address && self.expected == other.expected
    }

    /// Connects and verifies the certificate. The caller sets the deadline.
    pub async fn connect(&self) -> Result<SslStream<TcpStream>, (FailurePhase, String)> {
        let unconnected = |error: io::Error| (FailurePhase::Connect, io_message(&error));
        let mut stream = TcpStream::connect(self.address).await.map_err(unconnected)?;
        let _ = stream.set_nodelay(true);
        if let Some(client) = self.client {
            let header = proxy_protocol::encode_header(SocketAddr::new(client, 0), self.address);
            stream.write_all(&header).await.map_err(unconnected)?;
        }
        let failed = |cause: String| (FailurePhase::Handshake, cause);
        let ssl = Ssl::new(&self.context).map_err(|error| failed(error.to_string()))?;
        let mut stream = SslStream::new(ssl, stream).map_err(|error| failed(error.to_string()))?;
        Pin::new(&mut stream).connect().await.map_err(|error| failed(handshake_message(error)))?;
        let seen = stream
            .ssl()
            .peer_certificate()
            .and_then(|certificate| Fingerprint::from_certificate(&certificate));
        match seen {
            Some(seen) if self.expected.admits(seen) => Ok(stream),
            Some(seen) => {
                let expected = self.expected.current;
                Err(failed(format!("{CERTIFICATE_FAULT}: expected fingerprint {expected}, seen {seen}")))
            }
            None => Err(failed(format!("{CERTIFICATE_FAULT}: none was shown"))),
        }
    }
}

fn handshake_message(error: openssl::ssl::Error) -> String {
    error.into_io_error().map_or_else(|error| error.to_string(), |error: io::Error| io_message(&error))
}

impl fmt::Display for PeerNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node '{}' at {}", self.node, self.address)
    }
}
