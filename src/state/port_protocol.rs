//! The protocol of the port, from the profile.

use std::sync::Arc;

use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::product::Protocol;
use crate::tls::TlsAcceptor;
use crate::tls::session_tickets::TicketKeys;

pub enum PortProtocol {
    Https(TlsAcceptor),
    /// plaintext, and TLS if there is an acceptor
    Connect(Option<TlsAcceptor>),
}

impl PortProtocol {
    pub(crate) fn load(config: &Config, tickets: &Arc<TicketKeys>) -> (Option<Self>, Vec<Diagnostic>) {
        let load = || TlsAcceptor::load(config, tickets);
        match config.product.protocol {
            Protocol::Https => {
                let (acceptor, problems) = load();
                (acceptor.map(Self::Https), problems)
            }
            Protocol::Connect if config.product.certificate.is_empty() => {
                (Some(Self::Connect(None)), Vec::new())
            }
            Protocol::Connect => {
                let (acceptor, problems) = load();
                (Some(Self::Connect(acceptor)), problems)
            }
        }
    }

    /// The TLS acceptor, if the port accepts TLS.
    pub fn acceptor(&self) -> Option<&TlsAcceptor> {
        match self {
            Self::Https(acceptor) => Some(acceptor),
            Self::Connect(acceptor) => acceptor.as_ref(),
        }
    }
}
