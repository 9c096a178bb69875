//! Settings of `[listen]` and `[acl]`, and the addresses that nodegate listens on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::Row;
use crate::config::setting::PORT_OR_ANY;
use crate::config::setting::ValueKind::{Bool, List, Text};
use crate::net::acl::AclPolicy;
use crate::net::allowed_hosts::AllowedHosts;

pub(super) const ROWS: &[Row] = &[
    Row::new("listen.address", "::", Text, |s, v| v.parsed(&mut s.listen.address, ListenAddress::parse))
        .legacy("LISTEN_IP")
        .doc("the address on which nodegate listens"),
    Row::new("listen.port", "8006", PORT_OR_ANY, |s, v| v.number(&mut s.listen.port))
        .doc("the TCP port; 0 takes a free one and logs it"),
    Row::new("listen.proxy_protocol", "false", Bool, |s, v| v.truth(&mut s.first.proxy_protocol))
        .doc("every connection begins with a PROXY header"),
    Row::new("listen.hosts", "", List, |s, v| v.parsed(&mut s.hosts, AllowedHosts::parse))
        .doc("names and addresses that requests may have in `Host`"),
    Row::new("acl.allow_from", "", List, |s, v| v.addresses(&mut s.first.acl.allow))
        .legacy("ALLOW_FROM")
        .doc("see *Address lists*"),
    Row::new("acl.deny_from", "", List, |s, v| v.addresses(&mut s.first.acl.deny))
        .legacy("DENY_FROM")
        .doc("see *Address lists*"),
    Row::new("acl.policy", "allow", Text, |s, v| v.parsed(&mut s.first.acl.policy, policy))
        .legacy("POLICY")
        .doc("what happens to an address in both lists or in none"),
];

/// Reads `allow` or `deny` in any case.
pub(super) fn policy(text: &str) -> Result<AclPolicy, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "allow" => Ok(AclPolicy::Allow),
        "deny" => Ok(AclPolicy::Deny),
        _ => Err(format!("must be allow or deny, not '{text}'")),
    }
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListenSettings {
    pub address: ListenAddress,
    /// 0: any free port
    pub port: u16,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ListenAddress {
    /// both families; only IPv4 if IPv6 is off
    #[default]
    Any,
    /// one address, with the zone of a link-local one (interface name or index)
    Literal { address: IpAddr, zone: Option<String> },
    /// a name to be resolved when binding
    Name(String),
    /// only IPv6, because another listener has IPv4 on the same port
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

/// In the form of the setting.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("::"),
            Self::AnyV6 => f.write_str(":: for IPv6 only"),
            Self::Literal { address, zone: Some(zone) } => write!(f, "{address}%{zone}"),
            Self::Literal { address, zone: None } => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Letters, digits, `-` and `.`; at least one letter, so that a mistyped address is not taken for a name.
pub(super) fn is_host_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !text.starts_with(['-', '.'])
}

impl ListenSettings {
    /// Whether only programs of this machine can connect.
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
