//! `nodegate route PROFILE METHOD PATH`: one line, `TARGET login|open REASON`.

use std::process::ExitCode;
use std::sync::Arc;

use http::Method;

use super::{CommandResult, fail, load, say};
use crate::auth::authenticator::Authenticator;
use crate::config::loaded_routes::RouteSource;
use crate::config::product::{ConnectRules, Product, Protocol};
use crate::config::{Config, ConfigSources};
use crate::handler::health::HealthProbe;
use crate::http::api_grammar::ApiGrammar;
use crate::http::path_pattern::verb;
use crate::http::target::RequestTarget;
use crate::proxy::router::{Route, RouteRules};
use crate::upstream::nodes::NodeFile;

pub fn run(profile: &str, options: &ConfigSources, method: &str, path: &str) -> CommandResult {
    let config = load(profile, options)?;
    let method: Method = method.parse().map_err(|_| fail(&format!("'{method}' is not an HTTP method")))?;
    let line = match &config.product {
        Product { connect: Some(connect), protocol, .. } if is_for_tunnels(*protocol, &config, &method) => {
            explain_connect(connect, &method, path)
        }
        _ => explain(&config, &method, path).map_err(|message| fail(&message))?,
    };
    say(&line);
    Ok(ExitCode::SUCCESS)
}

/// Whether such a request is for a tunnel, allowed or not.
fn is_for_tunnels(protocol: Protocol, config: &Config, method: &Method) -> bool {
    match protocol {
        Protocol::Connect => true,
        Protocol::Https => config.settings.tunnel.connect_on_https && *method == Method::CONNECT,
    }
}

fn explain_connect(connect: &ConnectRules, method: &Method, target: &str) -> String {
    if *method != Method::CONNECT {
        return "refused:405 login only CONNECT is served here".to_owned();
    }
    if target.starts_with(&format!("{}:", connect.prefix)) {
        "tunnel login the target is a ticket; its signature and age decide".to_owned()
    } else {
        "refused:401 login the target is not a ticket".to_owned()
    }
}

fn explain(config: &Config, method: &Method, path: &str) -> Result<String, String> {
    let nodes =
        Arc::new(NodeFile::new(config.product.nodes.as_ref(), &config.root, &config.settings.node_name));
    let routes = RouteRules::new(config);
    let api = ApiGrammar::new(&config.product)?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let target = match RequestTarget::parse(path, &api) {
        Ok(target) => target,
        Err(error) => return Ok(format!("refused:400 open {error}")),
    };
    let rules = config.product.auth.clone();
    let authenticator = rules.map(|rules| Authenticator::new(rules, &config.root, Arc::clone(&nodes)));
    let authenticator = authenticator.transpose().map_err(|problems| problems.join("\n"))?;
    let needs_login = match &target {
        RequestTarget::Api(api) => {
            authenticator.is_some_and(|authenticator| !authenticator.is_open(method, api))
        }
        RequestTarget::Path(_) | RequestTarget::NoSuchUri => false,
    };
    let route = routes.resolve(method, &target, query, &nodes).map_err(|error| error.to_string())?;
    if let Some(refused) = refused_method(method, &target, &route) {
        return Ok(refused);
    }
    if *method == Method::OPTIONS {
        return Ok(format!("{route} open OPTIONS is answered at once, with the methods that there are"));
    }
    let access = if needs_login { "login" } else { "open" };
    let table = in_table(config, method, &target, &route).unwrap_or_default();
    Ok(format!("{route} {access} {}{table}", reason(&route, &api)))
}

/// The line of the route table that decides about a call, or that none does. Also whether it adds a file.
fn in_table(config: &Config, method: &Method, target: &RequestTarget, route: &Route) -> Option<String> {
    let source = &config.routes.source;
    let api = match target {
        RequestTarget::Api(api) => api,
        RequestTarget::Path(path)
            if matches!(route, Route::Static(_)) && config.routes.table.added.serves(path) =>
        {
            return Some(format!(" (added by {source})"));
        }
        RequestTarget::Path(_) | RequestTarget::NoSuchUri => return None,
    };
    let path = api.joined();
    Some(match config.routes.table.find(verb(method), &path) {
        Some(found) => format!(" ({}, by {source})", found.template),
        None if *source == RouteSource::Absent => " (general rule, without a route table)".to_owned(),
        None => format!(" (general rule: not in {source})"),
    })
}

fn refused_method(method: &Method, target: &RequestTarget, route: &Route) -> Option<String> {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let writes = matches!(*method, Method::POST | Method::PUT | Method::DELETE);
    match (target, route) {
        (RequestTarget::Path(_), Route::Page | Route::Static(_) | Route::Probe(_)) if !reads => {
            Some(format!("refused:405 open {method} is not for pages and files"))
        }
        (RequestTarget::Api(_), _) if !reads && !writes => {
            Some(format!("refused:501 open method {method} is not served"))
        }
        _ => None,
    }
}

fn reason(route: &Route, api: &ApiGrammar) -> String {
    match route {
        Route::Daemon => "answered by the daemon of this node".to_owned(),
        Route::Unprivileged => "answered by this node, without root".to_owned(),
        Route::Master(name) => format!("only the master of the cluster answers it, {name}"),
        Route::Node(name) => format!("the path names the node {name}"),
        Route::UnknownNode(name) => format!("no such node '{name}'"),
        Route::Upload => "a file for a storage".to_owned(),
        Route::Websocket => "a console".to_owned(),
        Route::Page => "a page of the profile".to_owned(),
        Route::Static(_) => "a file of the profile".to_owned(),
        Route::Probe(HealthProbe::Health) => "answered here: whether the process is up".to_owned(),
        Route::Probe(HealthProbe::Ready) => "answered here: whether the process can serve".to_owned(),
        Route::Missing(_) => "no page, file or directory of the profile has this path".to_owned(),
        Route::NoSuchUri => format!("write {}", api.outline()),
    }
}
