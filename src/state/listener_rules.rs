//! The rules for the connections of each listener.

use std::sync::Arc;

use crate::config::Config;
use crate::config::settings::ListenerSettings;
use crate::state::route_scope::RouteScope;
use crate::state::shared::AppState;

/// The rules of one listener. A connection keeps its rules until a reload brings newer ones for the same name.
pub struct ListenerRules {
    pub settings: ListenerSettings,
    /// the part of the product that is served here; `None` serves all
    pub scope: Option<Arc<RouteScope>>,
}

impl ListenerRules {
    /// The rules of all listeners, in the order of the settings.
    pub(crate) fn all(config: &Config) -> Result<Vec<Arc<Self>>, String> {
        let scopes = &config.product.route_scope;
        let rules = config.settings.listeners.iter().map(|listener| {
            let scope = listener.route_scope.as_ref().and_then(|name| scopes.get_key_value(name));
            let scope =
                scope.map(|(name, scope)| RouteScope::new(name, scope, &config.product, &config.root));
            Ok(Arc::new(Self { settings: listener.clone(), scope: scope.transpose()?.map(Arc::new) }))
        });
        rules.collect()
    }
}

impl AppState {
    /// The rules of the listener with this name.
    pub fn listener(&self, name: &str) -> Option<&Arc<ListenerRules>> {
        self.listeners.iter().find(|rules| *rules.settings.name == *name)
    }
}
