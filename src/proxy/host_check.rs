//! Verifies the host that a request names (`listen.hosts`).

use http::header::HOST;
use http::request::Parts;

use crate::http::error::ResponseError;
use crate::net::allowed_hosts::{AllowedHosts, HostName};
use crate::net::forwarded_host;
use crate::os::log_limit::{self, LogTopic};
use crate::proxy::worker_context::WorkerContext;
use crate::state::client_connection::ClientConnection;
use crate::state::shared::AppState;

/// Characters of a rejected host in the log. A DNS name has at most so many.
const SHOWN: usize = 253;

/// Rejects hosts that the listener does not list. Probes are exempt, because load balancers use addresses. Requests
/// of other nodes are exempt, because they bring the `Host` of their client.
pub fn check(client: &ClientConnection, context: &WorkerContext, head: &Parts) -> Result<(), ResponseError> {
    let state = &context.state;
    let rules = client.rules();
    let is_probe = || context.handlers.routes.probes.find(head.uri.path()).is_some();
    if rules.settings.hosts.is_empty() || is_probe() || comes_from_node(client, state, head) {
        return Ok(());
    }
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    if is_listed(&rules.settings.hosts, host)
        && are_forwarded_listed(client, state, head, &rules.settings.hosts)
    {
        return Ok(());
    }
    let host: String = host.unwrap_or_default().chars().take(SHOWN).collect();
    tracing::debug!(peer = %client.client_ip.address(), host, "a host that is not answered");
    if log_limit::is_due(LogTopic::Host, &rules.settings.name).is_some() {
        let (listener, setting) = (&*rules.settings.name, rules.settings.hosts_key.as_str());
        tracing::warn!(
            peer = %client.client_ip.address(), host, listener,
            "a request names a host that {setting} does not list; more of them are not logged for an hour"
        );
    }
    Err(ResponseError::OtherHost { setting: rules.settings.hosts_key.clone() })
}

/// Both the header and the address must be those of another node.
fn comes_from_node(client: &ClientConnection, state: &AppState, head: &Parts) -> bool {
    state.header_names.is_looped(&head.headers)
        && [client.tcp_peer(), client.client_ip].into_iter().any(|peer| state.other_node(peer).is_some())
}

fn is_listed(hosts: &AllowedHosts, host: Option<&str>) -> bool {
    host.and_then(HostName::parse).is_some_and(|host| hosts.holds(&host))
}

/// Whether the names in `X-Forwarded-Host` and `Forwarded` of a trusted proxy are listed, because the proxy may
/// rewrite `Host`. They can only reject a request: some proxies forward these headers unverified.
fn are_forwarded_listed(
    client: &ClientConnection,
    state: &AppState,
    head: &Parts,
    hosts: &AllowedHosts,
) -> bool {
    if !state.is_proxy(client.client_ip) {
        return true;
    }
    let proxies = &state.config.settings.real_ip;
    let named = forwarded_host::host_names(&head.headers, |address| proxies.is_proxy(address));
    named.iter().all(|place| hosts.holds(&HostName::from_host_port(place)))
}
