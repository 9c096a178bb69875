//! The upstreams of a worker: the daemons of this node, and the other nodes of the cluster.

use std::net::IpAddr;

use crate::config::Config;
use crate::config::settings::BackendAddress;
use crate::http::error::ResponseError;
use crate::metrics::upstreams;
use crate::os::request_context;
use crate::state::shared::AppState;
use crate::upstream::client::{PeerPools, UpstreamClient};

/// The upstream clients of one worker under one configuration.
pub struct Upstreams {
    pub daemon: UpstreamClient,
    unprivileged: Option<UpstreamClient>,
    pages: Option<UpstreamClient>,
    peers: PeerPools,
}

impl Upstreams {
    pub fn new(config: &Config) -> Self {
        let settings = &config.settings;
        let client = |address: &BackendAddress, health| {
            UpstreamClient::local(address.clone(), settings.backend.keepalive, settings.timeout, health)
        };
        // The daemon answers every call, so it stands in for the unprivileged one.
        let with_fallback = |address: &BackendAddress| {
            client(address, upstreams::worker())
                .with_fallback(settings.backend.address.clone(), upstreams::daemon())
        };
        Self {
            daemon: client(&settings.backend.address, upstreams::daemon()),
            unprivileged: settings.unprivileged.as_ref().map(with_fallback),
            pages: page_client(config),
            peers: PeerPools::default(),
        }
    }

    /// The daemon for calls that need no root.
    pub fn unprivileged(&self) -> &UpstreamClient {
        self.unprivileged.as_ref().unwrap_or(&self.daemon)
    }

    /// The unprivileged daemon for pages, if one is set.
    pub fn pages(&self) -> Option<&UpstreamClient> {
        self.pages.as_ref()
    }

    /// The client for requests of `client` to the node `name`.
    ///
    /// # Errors
    /// The node is unknown, has no address, or no certificate of it is known.
    pub fn peer(
        &self,
        state: &AppState,
        name: &str,
        client: IpAddr,
    ) -> Result<UpstreamClient, ResponseError> {
        let peer = state.peer(name).inspect_err(|error| {
            let request = request_context::current_id().map(|id| id.to_string());
            upstreams::node(name).count_failure(&error.to_string(), request);
        })?;
        let settings = &state.config.settings;
        Ok(if settings.cluster_proxy_protocol {
            UpstreamClient::peer_for(peer, settings.timeout, client)
        } else {
            UpstreamClient::peer(peer, settings.timeout, &self.peers)
        })
    }
}

/// The unprivileged daemon without fallback: the daemon serves no pages.
pub fn page_client(config: &Config) -> Option<UpstreamClient> {
    let address = config.settings.unprivileged.clone()?;
    Some(UpstreamClient::local(address, false, config.settings.timeout, upstreams::worker()))
}
