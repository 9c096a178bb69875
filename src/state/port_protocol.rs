//! What is spoken on the port, by the profile.

use std::sync::Arc;

use crate::config::Config;
use crate::config::diagnostic::Problem;
use crate::config::product::Protocol;
use crate::tls::Acceptor;
use crate::tls::session_tickets::TicketKeys;

/// What is spoken on the port.
pub enum Speaks {
    Https(Acceptor),
    /// plain, or over TLS as well
    Connect(Option<Acceptor>),
}

impl Speaks {
    pub(crate) fn load(config: &Config, tickets: &Arc<TicketKeys>) -> (Option<Self>, Vec<Problem>) {
        let load = || Acceptor::load(config, tickets);
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

    /// What makes TLS of connections, where it is spoken.
    pub fn acceptor(&self) -> Option<&Acceptor> {
        match self {
            Self::Https(acceptor) => Some(acceptor),
            Self::Connect(acceptor) => acceptor.as_ref(),
        }
    }
}
