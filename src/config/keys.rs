//! Every setting there is: its name, the name it has in the products' own file, its kind and its default.
//!
//! The names are fixed (`docs/reference/profile.md`); a profile may give another default for any of them.

use crate::config::diagnostic::Origin;

/// What a value of a setting may look like, whichever layer it comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// any text
    Text,
    /// text with commas, or an array of texts
    List,
    /// `0`, `1`, `false`, `true`; in the products' own file `0` and `1` only
    Bool,
    /// a whole number between the two, both included
    Number(u64, u64),
}

/// One setting.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub legacy: Option<&'static str>,
    pub kind: Kind,
    pub default: &'static str,
}

const fn key(name: &'static str, legacy: Option<&'static str>, kind: Kind, default: &'static str) -> Key {
    Key { name, legacy, kind, default }
}

const SECONDS: Kind = Kind::Number(1, 86_400);
const SECONDS_OR_OFF: Kind = Kind::Number(0, 86_400);

/// In the order in which `nodegate check` prints them.
pub const KEYS: &[Key] = &[
    key("listen.address", Some("LISTEN_IP"), Kind::Text, "::"),
    key("listen.port", None, Kind::Number(0, 65_535), "8006"),
    key("listen.proxy_protocol", None, Kind::Bool, "false"),
    key("listen.hosts", None, Kind::List, ""),
    key("acl.allow_from", Some("ALLOW_FROM"), Kind::List, ""),
    key("acl.deny_from", Some("DENY_FROM"), Kind::List, ""),
    key("acl.policy", Some("POLICY"), Kind::Text, "allow"),
    key("tls.ciphers", Some("CIPHERS"), Kind::Text, DEFAULT_CIPHERS),
    key("tls.ciphersuites", Some("CIPHERSUITES"), Kind::Text, DEFAULT_CIPHERSUITES),
    key("tls.honor_cipher_order", Some("HONOR_CIPHER_ORDER"), Kind::Bool, "1"),
    key("tls.disable_tls_1_2", Some("DISABLE_TLS_1_2"), Kind::Bool, "0"),
    key("tls.disable_tls_1_3", Some("DISABLE_TLS_1_3"), Kind::Bool, "0"),
    key("tls.dhparams", Some("DHPARAMS"), Kind::Text, ""),
    key("tls.key_file", Some("TLS_KEY_FILE"), Kind::Text, ""),
    key("tls.more_certificates", None, Kind::List, ""),
    key("tls.client_certificates", None, Kind::Text, "off"),
    key("tls.client_ca", None, Kind::Text, ""),
    key("tls.client_crl", None, Kind::Text, ""),
    key("http2", None, Kind::Bool, "false"),
    key("compression.enabled", Some("COMPRESSION"), Kind::Bool, "1"),
    key("compression.api", None, Kind::Bool, "false"),
    key("real_ip.header", Some("PROXY_REAL_IP_HEADER"), Kind::Text, ""),
    key("real_ip.allow_from", Some("PROXY_REAL_IP_ALLOW_FROM"), Kind::List, ""),
    key("real_ip.acl", None, Kind::Bool, "false"),
    key("workers", Some("MAX_WORKERS"), Kind::Number(1, 127), "3"),
    key("backend.address", None, Kind::Text, "127.0.0.1:85"),
    key("backend.unprivileged", None, Kind::Text, ""),
    key("backend.keepalive", None, Kind::Bool, "false"),
    key("backend.coalesce", None, Kind::Bool, "false"),
    key("node.name", None, Kind::Text, ""),
    key("cluster.port", None, Kind::Number(1, 65_535), "8006"),
    key("cluster.proxy_protocol", None, Kind::Bool, "false"),
    key("tunnel.peer_port", None, Kind::Number(1, 65_535), "3128"),
    key("tunnel.ports", None, Kind::Text, "61000-61999"),
    key("tunnel.on_https", None, Kind::Bool, "false"),
    key("tunnel.public", None, Kind::Text, ""),
    key("tunnel.peer_tls", None, Kind::Bool, "false"),
    key("user", None, Kind::Text, "www-data"),
    key("timeout.connect", None, SECONDS, "10"),
    key("timeout.answer", None, SECONDS, "30"),
    key("timeout.answer_unprivileged", None, SECONDS, "600"),
    key("timeout.first_byte", None, SECONDS_OR_OFF, "0"),
    key("timeout.handshake", None, SECONDS_OR_OFF, "0"),
    key("timeout.header", None, SECONDS, "10"),
    key("timeout.body", None, SECONDS, "30"),
    key("timeout.login_body", None, SECONDS, "10"),
    key("timeout.write", None, SECONDS, "60"),
    key("timeout.idle", None, SECONDS, "65"),
    key("timeout.tunnel", None, SECONDS_OR_OFF, "0"),
    key("timeout.stop", None, SECONDS, "10"),
    key("timeout.drain", None, SECONDS, "86400"),
    key("limits.body", None, Kind::Number(0, 1 << 30), "524288"),
    key("limits.login_body", None, Kind::Number(256, 1 << 30), "16384"),
    key("limits.buffered", None, Kind::Number(1 << 20, 1 << 40), "67108864"),
    key("limits.body_rate", None, Kind::Number(0, 1 << 30), "1000"),
    key("limits.answer_rate", None, Kind::Number(0, 1 << 30), "250"),
    key("limits.url", None, Kind::Number(256, 65_534), "32768"),
    key("limits.header", None, Kind::Number(256, 1 << 16), "8192"),
    key("limits.headers", None, Kind::Number(1, 100), "64"),
    key("limits.connections", None, Kind::Number(0, 1 << 20), "0"),
    key("limits.connections_per_address", None, Kind::Number(0, 1 << 20), "0"),
    key("limits.requests_per_address", None, Kind::Number(0, 1 << 20), "0"),
    key("limits.uploads", None, Kind::Number(1, 1 << 16), "64"),
    key("limits.spool", None, Kind::Number(0, 1 << 50), "0"),
    key("limits.login_failures", None, Kind::Number(0, 1 << 20), "20"),
    key("console.ping", None, SECONDS_OR_OFF, "30"),
    key("console.origins", None, Kind::List, ""),
    key("console.recheck", None, SECONDS_OR_OFF, "30"),
    key("headers.nosniff", None, Kind::Bool, "true"),
    key("headers.hsts", None, Kind::Number(0, 157_680_000), "0"),
    key("headers.frames", None, Kind::Text, ""),
    key("headers.referrer", None, Kind::Text, ""),
    key("headers.csp", None, Kind::Bool, "false"),
    key("cors.origins", None, Kind::List, ""),
    key("metrics.listen", None, Kind::Text, ""),
    key("metrics.allow_from", None, Kind::List, "127.0.0.0/8,::1"),
    key("metrics.hosts", None, Kind::List, ""),
    key("health.live", None, Kind::Text, "/-/health"),
    key("health.ready", None, Kind::Text, "/-/ready"),
    key("trace.request_id_header", None, Kind::Text, ""),
    key("trace.parent", None, Kind::Bool, "true"),
    key("log.access", None, Kind::Text, ""),
    key("log.format", None, Kind::Text, "classic"),
    key("log.target", None, Kind::Number(128, 65_534), "1024"),
];

/// The keys of a `[[listener]]` table, in the order in which `nodegate check` prints them.
pub const LISTENER_KEYS: &[Key] = &[
    key("name", None, Kind::Text, ""),
    key("address", None, Kind::Text, "::"),
    key("port", None, Kind::Number(0, 65_535), ""),
    key("tls", None, Kind::Bool, "true"),
    key("proxy_protocol", None, Kind::Bool, "false"),
    key("hosts", None, Kind::List, ""),
    key("allow_from", None, Kind::List, ""),
    key("deny_from", None, Kind::List, ""),
    key("policy", None, Kind::Text, ""),
    key("client_certificates", None, Kind::Text, ""),
    key("client_ca", None, Kind::Text, ""),
    key("client_crl", None, Kind::Text, ""),
    key("routes", None, Kind::Text, ""),
    key("connections", None, Kind::Number(0, 1 << 20), "0"),
    key("connections_per_address", None, Kind::Number(0, 1 << 20), ""),
    key("requests_per_address", None, Kind::Number(0, 1 << 20), ""),
];

/// `connections_per_address` of a listener with a class of routes, unless a setting says something else.
pub const CONNECTIONS_PER_ADDRESS_OF_CLASS: &str = "64";

/// The setting that a key of a `[[listener]]` table has its value from where the table does not give one.
pub fn inherited(listener_key: &str) -> Option<&'static str> {
    Some(match listener_key {
        "hosts" => "listen.hosts",
        "allow_from" => "acl.allow_from",
        "deny_from" => "acl.deny_from",
        "policy" => "acl.policy",
        "client_certificates" => "tls.client_certificates",
        "client_ca" => "tls.client_ca",
        "client_crl" => "tls.client_crl",
        "connections_per_address" => "limits.connections_per_address",
        "requests_per_address" => "limits.requests_per_address",
        _ => return None,
    })
}

const DEFAULT_CIPHERS: &str = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:\
ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:\
ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256";
const DEFAULT_CIPHERSUITES: &str =
    "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";

/// The setting of that name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The setting that the products' own file calls `legacy`.
pub fn find_legacy(legacy: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.legacy == Some(legacy))
}

/// The key as the admin wrote it there: the products' own files have names of their own.
pub fn written(key: &str, origin: &Origin) -> String {
    let legacy = find(key).and_then(|key| key.legacy);
    match (origin, legacy) {
        (Origin::File { path, .. }, Some(legacy)) if path.extension().is_none_or(|end| end != "toml") => {
            format!("{legacy} ({key})")
        }
        _ => key.to_owned(),
    }
}

/// The name most like `wrong`, for a hint behind "unknown key"; the products' own names are known as well.
pub fn most_like(wrong: &str) -> Option<&'static str> {
    find_legacy(&wrong.to_uppercase()).map(|key| key.name).or_else(|| likest(KEYS, wrong))
}

/// The same for a key of a `[[listener]]` table.
pub fn most_like_of_listener(wrong: &str) -> Option<&'static str> {
    likest(LISTENER_KEYS, wrong)
}

/// The same for a name in the products' own file.
pub fn most_like_of_legacy(wrong: &str) -> Option<&'static str> {
    let names = KEYS.iter().filter_map(|key| key.legacy);
    let likeness = |name: &&str| strsim::jaro_winkler(name, &wrong.to_uppercase());
    names.filter(|name| likeness(name) > 0.85).max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

fn likest(keys: &'static [Key], wrong: &str) -> Option<&'static str> {
    keys.iter()
        .map(|key| (strsim::jaro_winkler(key.name, wrong), key.name))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
