//! What holds for the connections of each listener.

use std::sync::Arc;

use crate::config::Config;
use crate::config::settings::{ClientAuthPolicy, ListenerLimits};
use crate::net::acl::AccessList;
use crate::net::allowed_hosts::AllowedHosts;
use crate::state::route_scope::RouteScope;
use crate::state::shared::AppState;

/// The rules of one listener. A connection keeps those that it came in by until there are newer ones of that name.
pub struct ListenerRules {
    pub name: Arc<str>,
    pub acl: AccessList,
    /// without it, clear HTTP is served as it comes
    pub tls: bool,
    /// every connection begins with a PROXY header of a listed proxy
    pub proxy_protocol: bool,
    /// Host names that are answered, and the setting that lists them
    pub hosts: AllowedHosts,
    pub hosts_key: String,
    pub clients: ClientAuthPolicy,
    pub limits: ListenerLimits,
    /// what is served here; `None` for all
    pub class: Option<Arc<RouteScope>>,
}

impl ListenerRules {
    /// In the order of the settings.
    pub(crate) fn all(config: &Config) -> Result<Vec<Arc<Self>>, String> {
        let classes = &config.product.class;
        let rules = config.settings.listeners.iter().map(|listener| {
            let class = listener.route_scope.as_ref().and_then(|name| classes.get_key_value(name));
            let class =
                class.map(|(name, class)| RouteScope::new(name, class, &config.product, &config.root));
            Ok(Arc::new(Self {
                name: Arc::clone(&listener.name),
                acl: listener.acl.clone(),
                tls: listener.tls,
                proxy_protocol: listener.proxy_protocol,
                hosts: listener.hosts.clone(),
                hosts_key: listener.hosts_key.clone(),
                clients: listener.clients.clone(),
                limits: listener.limits,
                class: class.transpose()?.map(Arc::new),
            }))
        });
        rules.collect()
    }
}

impl AppState {
    /// The rules of the listener that has this name now.
    pub fn listener(&self, name: &str) -> Option<&Arc<ListenerRules>> {
        self.listeners.iter().find(|rules| *rules.name == *name)
    }
}
