//! The protocol of the port, from the profile.

use std::sync::Arc;

use crate::config::Config;
use crate::config::diagnostic::Diagnosed;
use crate::config::product::Protocol;
use crate::tls::TlsAcceptor;
use crate::tls::session_tickets::TicketKeys;

pub enum PortProtocol {
    Https(TlsAcceptor),
    /// plaintext, and TLS if there is an acceptor
    Connect(Option<TlsAcceptor>),
}

impl PortProtocol {
    pub(crate) fn load(config: &Config, tickets: &Arc<TicketKeys>) -> Diagnosed<Option<Self>> {
        let load = || TlsAcceptor::load(config, tickets);
        match config.product.protocol {
            Protocol::Https => load().map(|acceptor| acceptor.map(Self::Https)),
            Protocol::Connect if config.product.certificate.is_empty() => {
                Diagnosed { value: Some(Self::Connect(None)), problems: Vec::new() }
            }
            Protocol::Connect => load().map(|acceptor| Some(Self::Connect(acceptor))),
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
