//! Settings about trusted proxies.

use std::net::IpAddr;
use std::str::FromStr as _;

use http::HeaderName;

use super::Row;
use crate::config::setting::ValueKind::{Bool, List, Text};
use crate::net::acl::AddressList;

pub(super) const ROWS: &[Row] = &[
    Row::new("real_ip.header", "", Text, |s, v| v.optional(&mut s.real_ip.header, header))
        .legacy("PROXY_REAL_IP_HEADER")
        .doc("header with the client's address"),
    Row::new("real_ip.allow_from", "", List, |s, v| v.optional_addresses(&mut s.real_ip.proxies))
        .legacy("PROXY_REAL_IP_ALLOW_FROM")
        .doc("the trusted proxies"),
    Row::new("real_ip.apply_acl", "false", Bool, |s, v| v.truth(&mut s.real_ip.apply_acl))
        .renamed_from("real_ip.acl")
        .doc("access lists also apply to the client behind a trusted proxy"),
];

/// The trusted proxies, and what their reports are used for.
#[derive(Debug, Default)]
pub struct RealIp {
    /// the header that reports the client's address
    pub header: Option<HeaderName>,
    /// the trusted proxies; without a list every peer is trusted, as the manual says, but only for the log
    pub proxies: Option<AddressList>,
    /// whether access lists verify the reported client as well
    pub apply_acl: bool,
}

impl RealIp {
    /// Whether a peer is one of the proxies that are listed.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.as_ref().is_some_and(|proxies| proxies.contains(address))
    }
}

fn header(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_str(text).map_err(|_| format!("'{text}' is not a header name"))
}
