//! The product's own `/etc/default/…` file, and hints for names that it does not know.

use std::path::Path;

use super::{SettingsLayers, find, find_legacy};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::setting::{Setting, ValueKind, most_like};
use crate::config::settings::{self, Settings};
use crate::config::shell;

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

impl SettingsLayers {
    /// Reads the file, which may be missing. Hints name `site_file` for settings that have no name here.
    pub fn legacy_file(&mut self, path: &Path, site_file: &Path) {
        let Some(bytes) = self.read(path) else { return };
        let (assignments, errors) = shell::parse(&bytes);
        let place = |line| ValueOrigin::File { path: path.to_path_buf(), line: Some(line) };
        for error in errors {
            self.problems.push(Diagnostic::error(place(error.line), "", error.message));
        }
        // As in a shell, the last assignment of a name wins.
        for (index, assignment) in assignments.iter().enumerate() {
            if assignments.iter().skip(index + 1).any(|later| later.name == assignment.name) {
                continue;
            }
            let origin = place(assignment.line);
            let Some(key) = find_legacy(&assignment.name) else {
                let hint = hint(&assignment.name, site_file);
                let message = format!("unknown key, ignored{hint}");
                self.problems.push(Diagnostic::warning(origin, &assignment.name, message));
                continue;
            };
            if key.kind != ValueKind::Bool && assignment.value.trim().is_empty() {
                continue; // the originals treat an empty value as unset
            }
            if key.kind == ValueKind::Bool && !matches!(assignment.value.as_str(), "0" | "1") {
                let message = format!("must be 0 or 1, not '{}' ({})", assignment.value, key.key);
                self.problems.push(Diagnostic::error(origin, &assignment.name, message));
                continue;
            }
            self.assign(key.key, Some(assignment.value.clone()), origin.clone(), origin);
        }
    }
}

/// A hint for an unknown name.
fn hint(name: &str, site_file: &Path) -> String {
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
            assert_eq!(hint(name, site), expected, "{name}");
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
}
