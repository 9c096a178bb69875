//! The result of a handshake, for logs and metrics.

use std::sync::Arc;

use openssl::ssl::SslRef;
use openssl::x509::X509;

use crate::tls::client_auth::ClientIdentity;

/// The parameters that client and server negotiated, in OpenSSL's words.
#[derive(Clone, Debug)]
pub struct TlsSession {
    pub version: &'static str,
    pub cipher: &'static str,
    /// the verified client certificate
    pub identity: Option<Arc<ClientIdentity>>,
    /// whether the session was resumed
    pub resumed: bool,
}

impl TlsSession {
    pub(super) fn from_ssl(ssl: &SslRef) -> Self {
        Self {
            version: ssl.version_str(),
            cipher: ssl.current_cipher().map_or("", |cipher| cipher.name()),
            identity: ClientIdentity::from_chain(verified_chain(ssl)).map(Arc::new),
            resumed: ssl.session_reused(),
        }
    }
}

/// The chain that was verified. A resumed session has only the client's own certificate.
fn verified_chain(ssl: &SslRef) -> Vec<X509> {
    let verified: Vec<_> = ssl.verified_chain().into_iter().flatten().map(ToOwned::to_owned).collect();
    if verified.is_empty() { ssl.peer_certificate().into_iter().collect() } else { verified }
}
