//! What a handshake came to: for logs and counters.

use std::sync::Arc;

use openssl::ssl::SslRef;

use super::client_certificate::Identity;

/// What client and server have agreed on, in OpenSSL's words.
#[derive(Clone, Debug)]
pub struct TlsSession {
    pub version: &'static str,
    pub cipher: &'static str,
    /// who has shown a certificate
    pub identity: Option<Arc<Identity>>,
    /// whether an earlier session was taken up
    pub resumed: bool,
}

impl TlsSession {
    pub(super) fn of(ssl: &SslRef) -> Self {
        Self {
            version: ssl.version_str(),
            cipher: ssl.current_cipher().map_or("", |cipher| cipher.name()),
            identity: ssl.peer_certificate().and_then(Identity::of).map(Arc::new),
            resumed: ssl.session_reused(),
        }
    }
}
