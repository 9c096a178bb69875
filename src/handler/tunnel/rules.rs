//! The rules for tickets, and the names of this node.

use std::time::SystemTime;

use nodegate_spice::{HeadLimits, HopHeaders, Target, TicketError, TicketRules, ticket};

use crate::auth::csrf;
use crate::config::Config;
use crate::config::product::Protocol;
use crate::fs::cached_file::{CachedFile, FileError};
use crate::handler::tunnel::error::TunnelError;
use crate::handler::tunnel::next_hop::PlaintextFallbackCache;
use crate::os::unix_time::unix_time;

/// The tunnel rules of profile and settings, with the file that holds the secret.
pub struct TunnelRules {
    ticket: TicketRules,
    secret: CachedFile<String>,
    pub(super) limits: HeadLimits,
    pub(super) names: HopHeaders,
    node_name: String,
    pub(super) peer_port: u16,
    pub(super) peer_tls: bool,
    pub(super) plaintext_nodes: PlaintextFallbackCache,
}

impl TunnelRules {
    /// `None` if no listener accepts `CONNECT`.
    pub fn new(config: &Config) -> Option<Self> {
        let settings = &config.settings;
        let accepts_connect = match config.product.protocol {
            Protocol::Https => settings.tunnel.connect_on_https,
            Protocol::Connect => true,
        };
        let connect = config.product.connect.as_ref().filter(|_| accepts_connect)?;
        let names = &config.product.backend;
        Some(Self {
            ticket: TicketRules {
                prefix: connect.prefix.clone(),
                ports: settings.tunnel.ports.clone(),
                max_age: connect.max_age,
                max_future: connect.max_future,
            },
            secret: CachedFile::new(config.root.path(&connect.secret), csrf::secret_text),
            limits: HeadLimits { bytes: settings.limits.header, headers: settings.limits.headers },
            names: HopHeaders {
                loop_header: names.loop_header.clone().unwrap_or_default(),
                client_header: names.client_header.clone().unwrap_or_default(),
            },
            node_name: settings.node_name.clone(),
            peer_port: settings.tunnel.peer_port,
            peer_tls: settings.tunnel.peer_tls,
            plaintext_nodes: PlaintextFallbackCache::default(),
        })
    }

    /// Reads the secret, for `check` and the readiness probe.
    pub fn file_error(&self) -> Option<FileError> {
        self.secret.get().err()
    }

    /// See `CachedFile::preload`.
    pub fn preload(&self) {
        self.secret.preload();
    }

    /// Verifies a ticket. If the cached secret does not fit, nodegate reads the file again: the ticket may be signed with
    /// a newer secret.
    pub(super) fn verify(&self, target: &str) -> Result<Target, TunnelError> {
        match self.verify_once(target) {
            Err(_) if self.secret.refresh() => self.verify_once(target),
            verified => verified,
        }
    }

    fn verify_once(&self, target: &str) -> Result<Target, TunnelError> {
        let secret = self.secret.get().map_err(TunnelError::Secret)?.value;
        ticket::verify(target, &self.ticket, &secret, unix_time(SystemTime::now())).map_err(|error| {
            match error {
                TicketError::Port(port) => TunnelError::Port(port),
                TicketError::Malformed
                | TicketError::Signature
                | TicketError::OtherPort
                | TicketError::Expired
                | TicketError::Future => TunnelError::Ticket(error),
            }
        })
    }

    pub(super) fn is_here(&self, node: &str) -> bool {
        node == "localhost" || node.eq_ignore_ascii_case(&self.node_name)
    }
}
