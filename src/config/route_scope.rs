//! A route scope: the part of a product that a listener serves if it does not serve everything.

use std::path::PathBuf;

use serde::Deserialize;

/// A listener with a route scope serves nothing outside it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct RouteScope {
    /// URLs of pages
    pub pages: Vec<String>,
    /// query parameters that turn these pages into others, which are not in the scope
    pub pages_without: Vec<String>,
    /// URLs of directories and of single files
    pub files: Vec<String>,
    /// `METHOD PATTERN` of calls
    pub calls: Vec<String>,
    /// prefixes of the tickets that are accepted; empty: all credentials
    pub tickets: Vec<String>,
    pub login: Option<ScopeLogin>,
    pub limit: Vec<CallLimit>,
}

/// The only realm whose users may log in.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ScopeLogin {
    /// `METHOD PATTERN`; one of the calls
    pub call: String,
    pub realm: String,
    /// a login without a realm is one of this realm
    #[serde(default)]
    pub is_default: bool,
    /// other realms that the product always has
    #[serde(default)]
    pub realms: Vec<String>,
    /// a file of sections whose ids are the names of more realms
    pub realm_file: Option<PathBuf>,
}

/// How often a client may make a call.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CallLimit {
    /// `METHOD PATTERN`; one of the calls
    pub call: String,
    /// calls of one address (IPv6: /64)
    pub per_minute: usize,
}
