//! Hints for unknown keys: the settings that were probably meant.

use std::path::Path;

use super::{find, find_legacy};
use crate::config::setting::{Setting, most_like};
use crate::config::settings::{self, LISTENER_ROWS, Settings};

/// Names of settings in guides and in other programs.
const ALIASES: &[(&str, &[&str])] = &[
    ("listen.port", &["PORT", "BIND_PORT", "HTTPS_PORT", "HTTP_PORT", "SERVER_PORT"]),
    (
        "listen.address",
        &["BIND_ADDR", "BIND_ADDRESS", "BIND_IP", "BIND", "LISTEN", "LISTEN_ADDR", "LISTEN_ON", "HOST", "IP"],
    ),
    ("acl.allow_from", &["ALLOW", "ALLOW_IP", "ALLOW_IPS", "ALLOWED_IPS", "ALLOWED_HOSTS", "WHITELIST"]),
    ("acl.deny_from", &["DENY", "DENY_IP", "DENY_IPS", "DENIED_IPS", "BLACKLIST"]),
    ("acl.policy", &["DEFAULT_POLICY", "ACCESS_POLICY"]),
    ("tls.ciphers", &["SSL_CIPHERS", "SSL_CIPHER_SUITE", "CIPHER_LIST"]),
    ("tls.key_file", &["KEY_FILE", "SSL_KEY_FILE", "SSL_KEY", "TLS_KEY", "SSL_CERTIFICATE_KEY"]),
    (
        "tls.additional_certificates",
        &["CERT_FILE", "SSL_CERT_FILE", "SSL_CERT", "TLS_CERT_FILE", "TLS_CERT", "SSL_CERTIFICATE"],
    ),
    ("real_ip.allow_from", &["TRUSTED_PROXIES", "PROXY_ALLOW_FROM"]),
    ("log.access", &["ACCESS_LOG", "LOG_FILE", "LOGFILE"]),
];

/// The keys that an unknown one may stand for: by its legacy name or with capitals, in another table, by its name in
/// other programs, or with a typing error.
pub(super) fn likely_keys(name: &str) -> Vec<&'static str> {
    let lower = name.to_lowercase();
    let field = without_table(&lower);
    if let Some(row) = find_legacy(&field.to_uppercase()).or_else(|| find(&lower)) {
        return vec![row.key];
    }
    let keys = settings::rows().map(|row| row.key);
    let in_other_tables: Vec<_> = keys.filter(|key| without_table(key) == field).collect();
    if !in_other_tables.is_empty() {
        return in_other_tables;
    }
    if let Some(row) = meant(&lower).or_else(|| meant(field)) {
        return vec![row.key];
    }
    most_like(settings::rows(), |row| Some(row.key), &lower).into_iter().collect()
}

/// The key of a `[[listener]]` table that an unknown one may stand for.
pub(super) fn likely_listener_key(name: &str) -> Option<&'static str> {
    let lower = name.to_lowercase();
    let meant = likely_keys(name);
    let of_setting = |setting: &&str| LISTENER_ROWS.iter().find(|row| row.key == without_table(setting));
    let row =
        LISTENER_ROWS.iter().find(|row| row.is_named(&lower)).or_else(|| meant.iter().find_map(of_setting));
    row.map(|row| row.key).or_else(|| most_like(LISTENER_ROWS.iter(), |row| Some(row.key), &lower))
}

fn without_table(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, field)| field)
}

/// A hint for an unknown name in the product's own file.
pub(super) fn legacy_hint(name: &str, site_file: &Path) -> String {
    match meant(name) {
        Some(Setting { legacy: Some(legacy), .. }) => format!("; the key here is {legacy}"),
        Some(Setting { key, .. }) => format!("; set {key} in {}", site_file.display()),
        None => {
            let like = most_like(settings::rows(), |row| row.legacy, &name.to_uppercase());
            like.map(|legacy| format!("; did you mean {legacy}?")).unwrap_or_default()
        }
    }
}

/// The setting that has this name in other programs, or in nodegate's own files and environment.
fn meant(name: &str) -> Option<&'static Setting<Settings>> {
    let plain = name.to_uppercase();
    let plain = plain.strip_prefix("NODEGATE_").unwrap_or(&plain).replace("__", "_");
    let own = settings::rows().find(|key| {
        let names = [Some(key.key), key.deprecated];
        names.into_iter().flatten().any(|name| name.to_uppercase().replace('.', "_") == plain)
    });
    own.or_else(|| {
        let (key, _) = ALIASES.iter().find(|(_, aliases)| aliases.contains(&plain.as_str()))?;
        find(key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_guides_lead_to_the_right_key() {
        let site = Path::new("/etc/nodegate/x.toml");
        let cases = [
            ("LISTEN_PORT", "; set listen.port in /etc/nodegate/x.toml"),
            ("PORT", "; set listen.port in /etc/nodegate/x.toml"),
            ("NODEGATE_LISTEN__PORT", "; set listen.port in /etc/nodegate/x.toml"),
            ("BIND_ADDR", "; the key here is LISTEN_IP"),
            ("LISTEN_ADDRESS", "; the key here is LISTEN_IP"),
            ("TLS_CIPHERS", "; the key here is CIPHERS"),
            ("HTTP2", "; set http2 in /etc/nodegate/x.toml"),
            ("CERT_FILE", "; set tls.additional_certificates in /etc/nodegate/x.toml"),
            ("LIMITS_URL", "; set limits.uri_bytes in /etc/nodegate/x.toml"),
            ("ALOW_FROM", "; did you mean ALLOW_FROM?"),
            ("NET", ""),
            ("OFFICE", ""),
        ];
        for (name, expected) in cases {
            assert_eq!(legacy_hint(name, site), expected, "{name}");
        }
    }

    #[test]
    fn every_alias_is_unique_and_means_a_setting() {
        let mut seen = Vec::new();
        for (key, aliases) in ALIASES {
            assert!(find(key).is_some(), "{key}");
            for alias in *aliases {
                assert!(find_legacy(alias).is_none() && !seen.contains(alias), "{alias}");
                seen.push(alias);
            }
        }
    }

    #[test]
    fn unknown_keys_lead_to_the_right_one() {
        let cases = [
            ("ALLOW_FROM", "acl.allow_from"),
            ("acl.ALLOW_FROM", "acl.allow_from"),
            ("listen.LISTEN_IP", "listen.address"),
            ("LISTEN.PORT", "listen.port"),
            ("listen.Port", "listen.port"),
            ("tls.CIPHERS", "tls.ciphers"),
            ("HTTP2", "http2"),
            ("BIND_ADDR", "listen.address"),
            ("listen.bind", "listen.address"),
            ("listen_port", "listen.port"),
            ("real_ip.PROXY_REAL_IP_HEADER", "real_ip.header"),
            ("COMPRESSION", "compression.enabled"),
            ("compression.ENABLE", "compression.enabled"),
            ("tls.cert_file", "tls.additional_certificates"),
            ("tls.keyfile", "tls.key_file"),
            ("acl.alow_from", "acl.allow_from"),
            ("limits.URL", "limits.uri_bytes"),
        ];
        for (name, key) in cases {
            assert_eq!(likely_keys(name), [key], "{name}");
        }
        assert_eq!(likely_keys("port"), ["listen.port", "cluster.port"]);
        assert!(likely_keys("office.chair").is_empty());
    }

    #[test]
    fn listeners_have_hints_for_unknown_keys() {
        let cases = [
            ("ALLOW_FROM", Some("allow_from")),
            ("LISTEN_IP", Some("address")),
            ("Policy", Some("policy")),
            ("BIND_ADDR", Some("address")),
            ("alow_from", Some("allow_from")),
            ("CIPHERS", None),
        ];
        for (name, key) in cases {
            assert_eq!(likely_listener_key(name), key, "{name}");
        }
    }
}
