//! Settings of TLS.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::listener::ClientAuthPolicy;
use super::{Row, SettingsLayers};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::setting::ValueKind::{Bool, List, Text};
use crate::config::setting::truth;

pub(super) const ROWS: &[Row] = &[
    Row::new("tls.ciphers", DEFAULT_CIPHERS, Text, |s, v| v.text(&mut s.tls.ciphers))
        .legacy("CIPHERS")
        .doc("ciphers of TLS 1.2 and below, in OpenSSL's syntax"),
    Row::new("tls.ciphersuites", DEFAULT_CIPHERSUITES, Text, |s, v| v.text(&mut s.tls.ciphersuites))
        .legacy("CIPHERSUITES")
        .doc("ciphers of TLS 1.3"),
    Row::new("tls.honor_cipher_order", "1", Bool, |s, v| v.truth(&mut s.tls.honor_cipher_order))
        .legacy("HONOR_CIPHER_ORDER")
        .doc("0 lets the client choose"),
    Row::new("tls.disable_tls_1_2", "0", Bool, |s, v| v.truth(&mut s.tls.disable_tls_1_2))
        .legacy("DISABLE_TLS_1_2")
        .doc("disables the version; disabling both is an error"),
    Row::new("tls.disable_tls_1_3", "0", Bool, |s, v| v.truth(&mut s.tls.disable_tls_1_3))
        .legacy("DISABLE_TLS_1_3")
        .doc("disables the version; disabling both is an error"),
    Row::new("tls.dhparams", "", Text, |s, v| v.path(&mut s.tls.dhparams))
        .legacy("DHPARAMS")
        .doc("PEM file with the parameters of DHE suites"),
    Row::new("tls.key_file", "", Text, |s, v| v.path(&mut s.tls.key_file))
        .legacy("TLS_KEY_FILE")
        .doc("key of the custom certificate"),
    Row::new("tls.additional_certificates", "", List, |s, v| v.paths(&mut s.tls.additional_certificates))
        .renamed_from("tls.more_certificates")
        .doc("PEM files with further certificates"),
    Row::new("tls.client_certificates", "off", Text, |s, v| {
        v.parsed(&mut s.tls.clients.mode, ClientCertificates::parse)
    })
    .doc("`optional` requests a certificate, `required` demands one"),
    Row::new("tls.client_ca", "", Text, |s, v| v.path(&mut s.tls.clients.authorities))
        .doc("PEM file with the CAs that verify client certificates"),
    Row::new("tls.client_crl", "", Text, |s, v| v.path(&mut s.tls.clients.revocation_lists))
        .doc("file with the revocation lists of these CAs"),
    Row::new("http2", "false", Bool, |s, v| v.parsed(&mut s.tls.offers, ProtocolVersions::parse))
        .doc("offers HTTP/2 to clients"),
];

const DEFAULT_CIPHERS: &str = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:\
ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:\
ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256";
const DEFAULT_CIPHERSUITES: &str =
    "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";

#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    pub ciphers: String,
    pub ciphersuites: String,
    pub honor_cipher_order: bool,
    pub disable_tls_1_2: bool,
    pub disable_tls_1_3: bool,
    pub dhparams: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// PEM files besides the profile's certificate: each with its chain, and its key in it or beside it
    pub additional_certificates: Vec<PathBuf>,
    pub clients: ClientAuthPolicy,
    pub offers: ProtocolVersions,
    /// by key, for mistakes that only OpenSSL finds
    pub(crate) origins: BTreeMap<&'static str, ValueOrigin>,
}

impl TlsSettings {
    /// Records the origins of the values.
    pub(super) fn set_origins(&mut self, layers: &SettingsLayers) {
        let origin = |key| layers.find(key).origin;
        self.origins = ROWS.iter().map(|row| (row.key, origin(row.key))).collect();
        "tls.client_ca".clone_into(&mut self.clients.key);
        "tls.client_crl".clone_into(&mut self.clients.lists_key);
        self.clients.origin = origin("tls.client_ca");
        self.clients.lists_origin = origin("tls.client_crl");
    }

    /// An error at the place of a setting of this group.
    pub fn error(&self, key: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.origins.get(key).cloned().unwrap_or_default(), key, message)
    }
}

/// The versions of HTTP that nodegate offers to clients.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProtocolVersions {
    #[default]
    Http1,
    Http2AsWell,
}

impl ProtocolVersions {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(if truth(text)? { Self::Http2AsWell } else { Self::Http1 })
    }
}

/// Whether nodegate asks clients for a certificate.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClientCertificates {
    #[default]
    Off,
    /// a client without a certificate is served too
    Optional,
    Required,
}

impl ClientCertificates {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            _ => Err(format!("must be off, optional or required, not '{text}'")),
        }
    }
}
