//! What belongs together: parts of a profile, its product and the settings, its product and the listeners.

use super::layers::{self, SettingsLayers};
use super::product::{Product, Protocol};
use super::settings::{ClientCertificates, Settings};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};

/// What no type can say: which parts belong together, and what a pattern looks like.
pub(super) fn product_problems(product: &Product) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut require = |present: bool, what: &str| {
        if !present {
            problems.push(Diagnostic::error(ValueOrigin::Profile, format!("product.{what}"), "is missing"));
        }
    };
    match product.protocol {
        Protocol::Https => {
            require(!product.certificate.is_empty(), "certificate");
            require(product.gate.is_some(), "gate");
        }
        Protocol::Connect => require(product.connect.is_some(), "connect"),
    }
    for directory in &product.directory {
        if !(directory.url.starts_with('/') && directory.url.ends_with('/')) {
            let message = format!("url '{}' must begin and end with /", directory.url);
            problems.push(Diagnostic::error(ValueOrigin::Profile, "product.directory", message));
        }
    }
    problems
}

/// Settings that the profile has no use for, and that somebody counts on.
pub(super) fn out_of_place(
    product: &Product,
    settings: &Settings,
    layers: &SettingsLayers,
) -> Vec<Diagnostic> {
    let problem = |key, message| Diagnostic::error(layers.find(key).origin, key, message);
    let tunnel = &settings.tunnel;
    let answers = product.connect.as_ref().and_then(|connect| connect.answers.as_ref());
    let no_tickets = (tunnel.connect_on_https && product.connect.is_none()).then(|| {
        let message = "this profile has no [product.connect], by which tickets for tunnels are judged";
        problem("tunnel.connect_on_https", message)
    });
    let no_answers = (tunnel.advertised_proxy.is_some() && answers.is_none()).then(|| {
        let message = "this profile has no [product.connect.answers] that name a proxy to viewers";
        problem("tunnel.advertised_proxy", message)
    });
    let asks = settings.tls.clients.mode != ClientCertificates::Off;
    let no_demand = (asks && product.protocol == Protocol::Connect).then(|| {
        let message = "means nothing to a profile that tunnels: viewers may come without TLS";
        problem("tls.client_certificates", message)
    });
    let no_hosts = (!settings.hosts.is_empty() && product.protocol == Protocol::Connect).then(|| {
        let message = "means nothing to a profile that tunnels: clients name a ticket there, and no host";
        problem("listen.hosts", message)
    });
    let no_consoles = (!settings.console_origins.is_empty() && product.console.is_none()).then(|| {
        let message = "this profile has no [product.console]";
        problem("console.origins", message)
    });
    let limits = &settings.limits;
    let too_small = (limits.buffered < limits.body_budget()).then(|| {
        let message = format!(
            "{} bytes are less than four bodies of limits.body or sixteen of limits.login_body; using {}",
            limits.buffered,
            limits.body_budget()
        );
        Diagnostic::warning(layers.find("limits.buffered").origin, "limits.buffered", message)
    });
    [no_tickets, no_answers, no_demand, no_hosts, no_consoles, too_small].into_iter().flatten().collect()
}

/// What of a listener fits the product.
pub(super) fn listener_problems(
    product: &Product,
    settings: &Settings,
    layers: &SettingsLayers,
) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for (index, table) in layers.listeners.iter().enumerate() {
        let mut refuse = |key: &str, message: String| {
            if let Some(found) = table.given(key) {
                let key = layers::written(index + 1, key);
                problems.push(Diagnostic::error(found.origin.clone(), key, message));
            }
        };
        if product.protocol == Protocol::Connect {
            for key in ["tls", "hosts", "client_certificates", "client_ca", "client_crl", "route_scope"] {
                refuse(key, format!("means nothing to the profile {}, which tunnels", product.name));
            }
        }
    }
    let scopes = || product.class.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    for (number, listener) in settings.listeners.iter().enumerate() {
        let Some(name) = listener.route_scope.as_ref().filter(|name| !product.class.contains_key(*name))
        else {
            continue;
        };
        let known = match scopes() {
            none if none.is_empty() => "it has none".to_owned(),
            known => format!("it has {known}"),
        };
        let message = format!("'{name}' is no route scope of this profile; {known}");
        let key = layers::written(number, "route_scope");
        problems.push(Diagnostic::error(listener.route_scope_origin.clone(), key, message));
    }
    problems
}
