//! `nodegate pages PROFILE`: requests each page of the profile from the server on the profile's port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};
use std::process::ExitCode;

use http::header::{HeaderValue, USER_AGENT};

use super::compare::client::{ComparedResponse, ComparedServer, RequestHeader};
use super::compare::content::ComparedBody;
use super::{CommandResult, NOT_RUNNING, fail, load, say};
use crate::config::page::PageRules;
use crate::config::product::Product;
use crate::config::settings::{ClientCertificates, ListenAddress};
use crate::config::{Config, ConfigSources};
use crate::net::acl::PeerIp;
use crate::upstream::client::io_message;

/// Not a user agent that a profile takes for a phone.
const CLIENT: &str = concat!("nodegate/", env!("CARGO_PKG_VERSION"));
/// Characters of a reason that are shown.
const MAX_REASON_CHARS: usize = 400;

/// One line for each page and each of its templates: `ok TARGET` or `failed TARGET: REASON`.
pub fn run(profile: &str, options: &ConfigSources) -> CommandResult {
    let config = load(profile, options)?;
    let server = reachable_address(&config)
        .and_then(|address| ComparedServer::here(address, config.settings.listen.port))
        .map_err(|message| fail(&message))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| fail(&error.to_string()))?;
    let targets = targets(&config.product);
    let (mut failed, mut unanswered) = (0, 0);
    for target in &targets {
        match runtime.block_on(ask(&server, target)) {
            Ok(()) => say(&format!("ok {target}")),
            Err((reason, is_unanswered)) => {
                failed += 1;
                unanswered += usize::from(is_unanswered);
                say(&format!("failed {target}: {reason}"));
            }
        }
    }
    if unanswered > 0 && unanswered == targets.len() {
        return Err(ExitCode::from(NOT_RUNNING));
    }
    if failed == 0 { Ok(ExitCode::SUCCESS) } else { Err(ExitCode::FAILURE) }
}

/// The address to connect to, unless this machine cannot connect: then the failure of a page would mean nothing.
pub(super) fn reachable_address(config: &Config) -> Result<IpAddr, String> {
    let address = address(config)?;
    let Some(listener) = config.settings.listeners.first() else { return Ok(address) };
    let obstacle = if listener.proxy_protocol {
        "it accepts only connections with a PROXY header"
    } else if listener.clients.mode == ClientCertificates::Required {
        "it asks for a client certificate"
    } else if !listener.acl.admits(PeerIp::new(address)) {
        "its access list denies this machine"
    } else {
        return Ok(address);
    };
    Err(format!("pages cannot be requested at {address} port {}: {obstacle}", config.settings.listen.port))
}

/// The address of the port, seen from this machine.
fn address(config: &Config) -> Result<IpAddr, String> {
    match &config.settings.listen.address {
        ListenAddress::Any | ListenAddress::AnyV6 => Ok(Ipv4Addr::LOCALHOST.into()),
        ListenAddress::Literal { zone: Some(zone), address } => {
            Err(format!("pages cannot be requested at the link-local address {address}%{zone}"))
        }
        ListenAddress::Literal { address: IpAddr::V4(any), .. } if any.is_unspecified() => {
            Ok(Ipv4Addr::LOCALHOST.into())
        }
        ListenAddress::Literal { address: IpAddr::V6(any), .. } if any.is_unspecified() => {
            Ok(Ipv6Addr::LOCALHOST.into())
        }
        ListenAddress::Literal { address, .. } => Ok(*address),
        ListenAddress::Name(name) => {
            let found = (name.as_str(), 0).to_socket_addrs().ok().and_then(|mut found| found.next());
            found.map(|found| found.ip()).ok_or_else(|| format!("the name {name} cannot be resolved"))
        }
    }
}

/// A request for each template that a query selects.
pub(super) fn targets(product: &Product) -> Vec<String> {
    let of_page = |page: &PageRules| {
        let targets = page.template.iter().map(|choice| choice.target(&page.url, &product.variable));
        targets.flatten().collect::<Vec<_>>()
    };
    let mut targets: Vec<_> = product.page.iter().flat_map(of_page).collect();
    targets.sort();
    targets.dedup();
    targets
}

/// A page is HTML that is not empty. The error has whether no server answered at all.
pub(super) async fn ask(server: &ComparedServer, target: &str) -> Result<(), (String, bool)> {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    let header: RequestHeader = (USER_AGENT, HeaderValue::from_static(CLIENT));
    let answer = server
        .get(target, &server.authority(), Some(&header))
        .await
        .map_err(|error| (io_message(&error), refused(&error)))?;
    let is_page = matches!(&answer.content, ComparedBody::Html(text) if !text.is_empty());
    if answer.status == 200 && is_page { Ok(()) } else { Err((reason(&answer), false)) }
}

/// A text body of a failure, which has more details than the reason phrase.
fn reason(answer: &ComparedResponse) -> String {
    let kind = answer.header("content-type");
    if let Some(kind) = kind.as_ref().filter(|_| answer.status == 200) {
        return format!("200 with {kind}, {}", answer.content.summary());
    }
    let is_text = kind.is_none_or(|kind| kind.starts_with("text/plain"));
    let text = match &answer.content {
        ComparedBody::Opaque { start, .. } if is_text => String::from_utf8_lossy(start),
        ComparedBody::Opaque { .. } | ComparedBody::Json(_) | ComparedBody::Html(_) => "".into(),
    };
    let first = text.lines().next().unwrap_or_default().trim();
    let shown = if first.is_empty() { answer.reason.as_str() } else { first };
    let shown: String = shown.chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect();
    format!("{} {shown}", answer.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets_of(profile: &str) -> Vec<String> {
        targets(&Config::load(profile, &ConfigSources::default()).unwrap().product)
    }

    #[test]
    fn every_template_is_requested_once() {
        assert_eq!(targets_of("pve"), ["/", "/?console=1&novnc=1", "/?console=1&xtermjs=1", "/?mobile=1"]);
        let quarantine = ["/quarantine", "/quarantine?console=1&xtermjs=1", "/quarantine?mobile=1"];
        assert_eq!(targets_of("pmg"), [&["/", "/?console=1&xtermjs=1"], &quarantine[..]].concat());
        assert!(targets_of("spice").is_empty());
    }
}
