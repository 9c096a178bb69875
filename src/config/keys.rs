//! Every setting there is: its name, the name it has in the products' own file, its kind and its default.
//!
//! The names are fixed (`docs/reference/settings.md`); a profile may give another default for any of them.

use crate::config::diagnostic::ValueOrigin;

/// What a value of a setting may look like, whichever layer it comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ValueKind {
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
pub struct SettingKey {
    pub name: &'static str,
    /// the key of earlier releases, which is still read
    pub deprecated: Option<&'static str>,
    pub legacy: Option<&'static str>,
    pub kind: ValueKind,
    pub default: &'static str,
}

const fn key(
    name: &'static str,
    legacy: Option<&'static str>,
    kind: ValueKind,
    default: &'static str,
) -> SettingKey {
    SettingKey { name, deprecated: None, legacy, kind, default }
}

impl SettingKey {
    const fn renamed_from(self, deprecated: &'static str) -> Self {
        Self { deprecated: Some(deprecated), ..self }
    }

    /// Whether this is the key or its deprecated name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.deprecated == Some(name)
    }
}

/// The value that took the place of a deprecated one: key, deprecated value, new value.
const RENAMED_VALUES: &[(&str, &str, &str)] = &[("log.format", "classic", "text")];

/// The new name of a deprecated value.
pub fn renamed_value(key: &SettingKey, text: &str) -> Option<&'static str> {
    RENAMED_VALUES.iter().find(|(name, old, _)| *name == key.name && *old == text).map(|(.., new)| *new)
}

const SECONDS: ValueKind = ValueKind::Number(1, 86_400);
const SECONDS_OR_OFF: ValueKind = ValueKind::Number(0, 86_400);

/// In the order in which `nodegate check` prints them.
pub const KEYS: &[SettingKey] = &[
    key("listen.address", Some("LISTEN_IP"), ValueKind::Text, "::"),
    key("listen.port", None, ValueKind::Number(0, 65_535), "8006"),
    key("listen.proxy_protocol", None, ValueKind::Bool, "false"),
    key("listen.hosts", None, ValueKind::List, ""),
    key("acl.allow_from", Some("ALLOW_FROM"), ValueKind::List, ""),
    key("acl.deny_from", Some("DENY_FROM"), ValueKind::List, ""),
    key("acl.policy", Some("POLICY"), ValueKind::Text, "allow"),
    key("tls.ciphers", Some("CIPHERS"), ValueKind::Text, DEFAULT_CIPHERS),
    key("tls.ciphersuites", Some("CIPHERSUITES"), ValueKind::Text, DEFAULT_CIPHERSUITES),
    key("tls.honor_cipher_order", Some("HONOR_CIPHER_ORDER"), ValueKind::Bool, "1"),
    key("tls.disable_tls_1_2", Some("DISABLE_TLS_1_2"), ValueKind::Bool, "0"),
    key("tls.disable_tls_1_3", Some("DISABLE_TLS_1_3"), ValueKind::Bool, "0"),
    key("tls.dhparams", Some("DHPARAMS"), ValueKind::Text, ""),
    key("tls.key_file", Some("TLS_KEY_FILE"), ValueKind::Text, ""),
    key("tls.additional_certificates", None, ValueKind::List, "").renamed_from("tls.more_certificates"),
    key("tls.client_certificates", None, ValueKind::Text, "off"),
    key("tls.client_ca", None, ValueKind::Text, ""),
    key("tls.client_crl", None, ValueKind::Text, ""),
    key("http2", None, ValueKind::Bool, "false"),
    key("compression.enabled", Some("COMPRESSION"), ValueKind::Bool, "1"),
    key("compression.api", None, ValueKind::Bool, "false"),
    key("real_ip.header", Some("PROXY_REAL_IP_HEADER"), ValueKind::Text, ""),
    key("real_ip.allow_from", Some("PROXY_REAL_IP_ALLOW_FROM"), ValueKind::List, ""),
    key("real_ip.apply_acl", None, ValueKind::Bool, "false").renamed_from("real_ip.acl"),
    key("workers", Some("MAX_WORKERS"), ValueKind::Number(1, 127), "3"),
    key("backend.address", None, ValueKind::Text, "127.0.0.1:85"),
    key("backend.unprivileged", None, ValueKind::Text, ""),
    key("backend.keepalive", None, ValueKind::Bool, "false"),
    key("backend.coalesce", None, ValueKind::Bool, "false"),
    key("node.name", None, ValueKind::Text, ""),
    key("cluster.port", None, ValueKind::Number(1, 65_535), "8006"),
    key("cluster.proxy_protocol", None, ValueKind::Bool, "false"),
    key("tunnel.peer_port", None, ValueKind::Number(1, 65_535), "3128"),
    key("tunnel.ports", None, ValueKind::Text, "61000-61999"),
    key("tunnel.connect_on_https", None, ValueKind::Bool, "false").renamed_from("tunnel.on_https"),
    key("tunnel.advertised_proxy", None, ValueKind::Text, "").renamed_from("tunnel.public"),
    key("tunnel.peer_tls", None, ValueKind::Bool, "false"),
    key("user", None, ValueKind::Text, "www-data"),
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
    key("limits.body", None, ValueKind::Number(0, 1 << 30), "524288"),
    key("limits.login_body", None, ValueKind::Number(256, 1 << 30), "16384"),
    key("limits.buffered", None, ValueKind::Number(1 << 20, 1 << 40), "67108864"),
    key("limits.request_body_min_rate", None, ValueKind::Number(0, 1 << 30), "1000")
        .renamed_from("limits.body_rate"),
    key("limits.response_min_rate", None, ValueKind::Number(0, 1 << 30), "250")
        .renamed_from("limits.answer_rate"),
    key("limits.uri_bytes", None, ValueKind::Number(256, 65_534), "32768").renamed_from("limits.url"),
    key("limits.header", None, ValueKind::Number(256, 1 << 16), "8192"),
    key("limits.headers", None, ValueKind::Number(1, 100), "64"),
    key("limits.connections", None, ValueKind::Number(0, 1 << 20), "0"),
    key("limits.connections_per_address", None, ValueKind::Number(0, 1 << 20), "0"),
    key("limits.requests_per_address", None, ValueKind::Number(0, 1 << 20), "0"),
    key("limits.uploads", None, ValueKind::Number(1, 1 << 16), "64"),
    key("limits.upload_bytes_total", None, ValueKind::Number(0, 1 << 50), "0").renamed_from("limits.spool"),
    key("limits.login_failures", None, ValueKind::Number(0, 1 << 20), "20"),
    key("console.ping", None, SECONDS_OR_OFF, "30"),
    key("console.origins", None, ValueKind::List, ""),
    key("console.recheck", None, SECONDS_OR_OFF, "30"),
    key("headers.nosniff", None, ValueKind::Bool, "true"),
    key("headers.hsts", None, ValueKind::Number(0, 157_680_000), "0"),
    key("headers.frames", None, ValueKind::Text, ""),
    key("headers.referrer", None, ValueKind::Text, ""),
    key("headers.csp", None, ValueKind::Bool, "false"),
    key("cors.origins", None, ValueKind::List, ""),
    key("metrics.listen", None, ValueKind::Text, ""),
    key("metrics.allow_from", None, ValueKind::List, "127.0.0.0/8,::1"),
    key("metrics.hosts", None, ValueKind::List, ""),
    key("health.live", None, ValueKind::Text, "/-/health"),
    key("health.ready", None, ValueKind::Text, "/-/ready"),
    key("trace.request_id_header", None, ValueKind::Text, ""),
    key("trace.traceparent", None, ValueKind::Bool, "true").renamed_from("trace.parent"),
    key("log.access", None, ValueKind::Text, ""),
    key("log.format", None, ValueKind::Text, "text"),
    key("log.target", None, ValueKind::Number(128, 65_534), "1024"),
];

/// The keys of a `[[listener]]` table, in the order in which `nodegate check` prints them.
pub const LISTENER_KEYS: &[SettingKey] = &[
    key("name", None, ValueKind::Text, ""),
    key("address", None, ValueKind::Text, "::"),
    key("port", None, ValueKind::Number(0, 65_535), ""),
    key("tls", None, ValueKind::Bool, "true"),
    key("proxy_protocol", None, ValueKind::Bool, "false"),
    key("hosts", None, ValueKind::List, ""),
    key("allow_from", None, ValueKind::List, ""),
    key("deny_from", None, ValueKind::List, ""),
    key("policy", None, ValueKind::Text, ""),
    key("client_certificates", None, ValueKind::Text, ""),
    key("client_ca", None, ValueKind::Text, ""),
    key("client_crl", None, ValueKind::Text, ""),
    key("route_scope", None, ValueKind::Text, "").renamed_from("routes"),
    key("connections", None, ValueKind::Number(0, 1 << 20), "0"),
    key("connections_per_address", None, ValueKind::Number(0, 1 << 20), ""),
    key("requests_per_address", None, ValueKind::Number(0, 1 << 20), ""),
];

/// `connections_per_address` of a listener with a route scope, if no setting gives it.
pub const SCOPED_CONNECTIONS_PER_ADDRESS: &str = "64";

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

/// The setting with this key, or with this deprecated key.
pub fn find(name: &str) -> Option<&'static SettingKey> {
    KEYS.iter().find(|key| key.is_named(name))
}

/// The setting that the products' own file calls `legacy`.
pub fn find_legacy(legacy: &str) -> Option<&'static SettingKey> {
    KEYS.iter().find(|key| key.legacy == Some(legacy))
}

/// The key as the admin wrote it there: the products' own files have names of their own.
pub fn written(key: &str, origin: &ValueOrigin) -> String {
    let legacy = find(key).and_then(|key| key.legacy);
    match (origin, legacy) {
        (ValueOrigin::File { path, .. }, Some(legacy))
            if path.extension().is_none_or(|end| end != "toml") =>
        {
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

fn likest(keys: &'static [SettingKey], wrong: &str) -> Option<&'static str> {
    keys.iter()
        .map(|key| (strsim::jaro_winkler(key.name, wrong), key.name))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
