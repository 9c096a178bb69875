//! Places that connections are taken from, and what holds at each.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use super::ClientCertificates;
use crate::config::diagnostic::ValueOrigin;
use crate::net::acl::AccessList;
use crate::net::allowed_hosts::AllowedHosts;

/// The name of the listener that `[listen]` describes.
pub const FIRST: &str = "listen";

/// A place that connections are taken from, and its rules.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// unique; what a listener is known by from one configuration to the next
    pub name: Arc<str>,
    pub listen: ListenSettings,
    pub acl: AccessList,
    /// without it, clear HTTP is served as it comes
    pub tls: bool,
    /// every connection begins with a PROXY header, and only listed proxies connect
    pub proxy_protocol: bool,
    /// Host names that are answered, and the setting that lists them
    pub hosts: AllowedHosts,
    pub hosts_key: String,
    pub clients: ClientAuthPolicy,
    /// the route scope of this listener; `None` serves all routes
    pub route_scope: Option<String>,
    pub limits: ListenerLimits,
    /// where the address, and the route scope, were written
    pub origin: ValueOrigin,
    pub route_scope_origin: ValueOrigin,
}

/// What a listener may hold, and each of its clients. 0 is no limit of the listener's own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ListenerLimits {
    pub connections: usize,
    pub connections_per_address: usize,
    /// in flight
    pub requests_per_address: usize,
}

/// What clients have to show of certificates.
#[derive(Clone, Debug)]
pub struct ClientAuthPolicy {
    pub mode: ClientCertificates,
    /// there where certificates are asked for
    pub authorities: Option<PathBuf>,
    /// how the key that names them is written, and where
    pub key: String,
    pub origin: ValueOrigin,
    /// certificates that the CAs have revoked; the same for its key
    pub revocation_lists: Option<PathBuf>,
    pub lists_key: String,
    pub lists_origin: ValueOrigin,
}

impl ClientAuthPolicy {
    /// Certificates are asked for, and nothing could judge them.
    pub(super) fn is_without_authorities(&self) -> bool {
        self.mode != ClientCertificates::Off && self.authorities.is_none()
    }

    /// What certificates are judged by.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.authorities.iter().chain(&self.revocation_lists)
    }

    /// Whether a certificate that one asks for is what the other asks for. Lists of revoked ones judge it all the time.
    pub fn takes_certificates_of(&self, other: &Self) -> bool {
        self.mode == other.mode
            && (self.mode == ClientCertificates::Off || self.authorities == other.authorities)
    }
}

/// Whether the same is asked of clients, whoever asks it.
impl PartialEq for ClientAuthPolicy {
    fn eq(&self, other: &Self) -> bool {
        self.takes_certificates_of(other)
            && (self.mode == ClientCertificates::Off || self.revocation_lists == other.revocation_lists)
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenSettings {
    pub address: ListenAddress,
    /// 0 takes a free one
    pub port: u16,
}

/// `LISTEN_IP`: what to bind to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenAddress {
    /// both families; IPv4 alone where IPv6 is off
    Any,
    /// one address, with the zone of a link-local one (interface name or index)
    Literal { address: IpAddr, zone: Option<String> },
    /// a name to be resolved when binding
    Name(String),
    /// IPv6 alone, for another listener takes IPv4 on the same port
    AnyV6,
}

impl ListenAddress {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if bare.is_empty() || bare == "::" || bare == "*" {
            return Ok(Self::Any);
        }
        let (literal, zone) = match bare.split_once('%') {
            Some((literal, zone)) => (literal, Some(zone.to_owned())),
            None => (bare, None),
        };
        match (literal.parse::<IpAddr>(), zone) {
            (Ok(IpAddr::V4(_)), Some(_)) => Err(format!("'{text}': only an IPv6 address takes a %zone")),
            (Ok(_), Some(zone)) if zone.is_empty() => Err(format!("'{text}': the zone after % is missing")),
            (Ok(address), zone) => Ok(Self::Literal { address, zone }),
            (Err(_), Some(_)) => Err(format!("'{text}': no IPv6 address before %")),
            (Err(_), None) if is_host_name(bare) => Ok(Self::Name(bare.to_owned())),
            (Err(_), None) => Err(format!("'{text}' is neither an address nor a host name")),
        }
    }
}

/// As it can be written into the settings.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("::"),
            Self::AnyV6 => f.write_str(":: for IPv6 alone"),
            Self::Literal { address, zone: Some(zone) } => write!(f, "{address}%{zone}"),
            Self::Literal { address, zone: None } => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Letters, digits, `-` and `.`; at least one letter, so that a mistyped address is no name.
pub(super) fn is_host_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !text.starts_with(['-', '.'])
}

impl ListenSettings {
    /// Whether it is for programs of this machine alone.
    pub fn is_loopback(&self) -> bool {
        match &self.address {
            ListenAddress::Literal { address, .. } => address.is_loopback(),
            ListenAddress::Name(name) => name == "localhost",
            ListenAddress::Any | ListenAddress::AnyV6 => false,
        }
    }

    /// Every IPv4 address of the machine.
    pub(super) fn is_any_v4(&self) -> bool {
        let every = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        matches!(&self.address, ListenAddress::Literal { address, .. } if *address == every)
    }
}
