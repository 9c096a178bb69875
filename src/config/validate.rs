//! Checks across values: within a product, and of settings and listeners against it.

use super::layers::{self, SettingsLayers};
use super::product::{Product, Protocol};
use super::settings::{ClientCertificates, Settings};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};

const UNLISTED: &str = "every client can write any address into the access log, and nothing else uses it: \
    list the proxies in PROXY_REAL_IP_ALLOW_FROM (real_ip.allow_from)";
const NO_SECURITY_LEVEL: &str = "@SECLEVEL=0 allows keys and signatures that are easy to forge; \
    TLS 1.2 stays the lowest version";
pub(super) const NO_PROXIES: &str = "no proxy is trusted: list the proxies in real_ip.allow_from";

/// Settings that contradict each other.
pub(super) fn settings_problems(settings: &Settings, layers: &SettingsLayers) -> Vec<Diagnostic> {
    let place = |key: &str| {
        let origin = layers.find(key).origin;
        (layers::shown(key, &origin), origin)
    };
    let error = |key: &str, message: &str| {
        let (key, origin) = place(key);
        Diagnostic::error(origin, key, message)
    };
    let mut problems = Vec::new();
    if settings.real_ip.proxies.is_none() {
        if settings.real_ip.header.is_some() {
            let (key, origin) = place("real_ip.header");
            problems.push(Diagnostic::warning(origin, key, UNLISTED));
        }
        let takes_proxies = settings.listeners.first().is_some_and(|first| first.proxy_protocol);
        let keys =
            [("real_ip.apply_acl", settings.real_ip.apply_acl), ("listen.proxy_protocol", takes_proxies)];
        problems.extend(keys.into_iter().filter(|(_, is_on)| *is_on).map(|(key, _)| error(key, NO_PROXIES)));
    }
    if settings.tls.disable_tls_1_2 && settings.tls.disable_tls_1_3 {
        let message = "TLS 1.2 and TLS 1.3 are both disabled: no client could connect";
        problems.push(error("tls.disable_tls_1_3", message));
    }
    if settings.tls.ciphers.to_ascii_uppercase().contains("@SECLEVEL=0") {
        let (key, origin) = place("tls.ciphers");
        problems.push(Diagnostic::warning(origin, key, NO_SECURITY_LEVEL));
    }
    if settings.tls.clients.is_without_authorities() {
        let message = "without tls.client_ca no certificate of a client can be verified";
        problems.push(error("tls.client_certificates", message));
    }
    let (buffered, budget) = (settings.limits.buffered, settings.limits.body_budget());
    if buffered < budget {
        let message = format!(
            "{buffered} bytes are less than four bodies of limits.body or sixteen of limits.login_body; using {budget}"
        );
        let (key, origin) = place("limits.buffered");
        problems.push(Diagnostic::warning(origin, key, message));
    }
    problems
}

/// Parts of a product that contradict each other.
pub(super) fn product_problems(product: &Product) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for directory in &product.directory {
        if !(directory.url.starts_with('/') && directory.url.ends_with('/')) {
            let message = format!("url '{}' must begin and end with /", directory.url);
            problems.push(Diagnostic::error(ValueOrigin::Profile, "product.directory", message));
        }
    }
    problems
}

/// Probes whose paths are calls of the API: nodegate would never answer them.
pub(super) fn probes_in_api(
    product: &Product,
    settings: &Settings,
    layers: &SettingsLayers,
) -> Vec<Diagnostic> {
    let Some(api) = &product.api else { return Vec::new() };
    let probes = [("health.live", &settings.monitoring.health), ("health.ready", &settings.monitoring.ready)];
    let in_api = probes.into_iter().filter(|(_, path)| path.starts_with(&api.prefix));
    let problem = |(key, path): (&str, &String)| {
        let message = format!("'{path}' lies in the API of this profile, {}", api.prefix);
        Diagnostic::error(layers.find(key).origin, key, message)
    };
    in_api.map(problem).collect()
}

/// Settings that have no effect in this profile. They are errors, because the admin relies on them.
pub(super) fn out_of_place(
    product: &Product,
    settings: &Settings,
    layers: &SettingsLayers,
) -> Vec<Diagnostic> {
    let tunnel = &settings.tunnel;
    let answers = product.connect.as_ref().and_then(|connect| connect.answers.as_ref());
    let (tunnels, asks) =
        (product.protocol == Protocol::Connect, settings.tls.clients.mode != ClientCertificates::Off);
    let out_of_place = [
        (
            "tunnel.connect_on_https",
            tunnel.connect_on_https && product.connect.is_none(),
            "this profile has no [product.connect], which verifies tickets for tunnels",
        ),
        (
            "tunnel.advertised_proxy",
            tunnel.advertised_proxy.is_some() && answers.is_none(),
            "this profile has no [product.connect.answers] that name a proxy to viewers",
        ),
        (
            "tls.client_certificates",
            asks && tunnels,
            "has no effect in a profile for tunnels: viewers may connect without TLS",
        ),
        (
            "listen.hosts",
            !settings.hosts.is_empty() && tunnels,
            "has no effect in a profile for tunnels: clients send a ticket there instead of a host",
        ),
        (
            "routes.file",
            settings.routes_file.is_some() && product.api.is_none(),
            "this profile has no [product.api], so it has no routes",
        ),
        (
            "console.origins",
            !settings.console_origins.is_empty() && product.console.is_none(),
            "this profile has no [product.console]",
        ),
    ];
    let out_of_place = out_of_place.into_iter().filter(|(_, is_wrong, _)| *is_wrong);
    out_of_place.map(|(key, _, message)| Diagnostic::error(layers.find(key).origin, key, message)).collect()
}

/// Keys of listeners that the product does not support.
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
                refuse(key, format!("has no effect in the profile {}, which is for tunnels", product.name));
            }
        }
    }
    let scopes = || product.route_scope.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    for (number, listener) in settings.listeners.iter().enumerate() {
        let Some(name) =
            listener.route_scope.as_ref().filter(|name| !product.route_scope.contains_key(*name))
        else {
            continue;
        };
        let known = match scopes() {
            none if none.is_empty() => "it has none".to_owned(),
            known => format!("it has {known}"),
        };
        let message = format!("'{name}' is not a route scope of this profile; {known}");
        let key = layers::written(number, "route_scope");
        problems.push(Diagnostic::error(listener.route_scope_origin.clone(), key, message));
    }
    problems
}
