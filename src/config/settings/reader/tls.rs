//! Settings for TLS.

use super::SettingsReader;
use crate::config::settings::{ClientAuthPolicy, ClientCertificates, HttpVersions, TlsOrigins, TlsSettings};

impl SettingsReader<'_> {
    pub(super) fn tls(&mut self) -> TlsSettings {
        let settings = TlsSettings {
            ciphers: self.text("tls.ciphers").text,
            ciphersuites: self.text("tls.ciphersuites").text,
            honor_cipher_order: self.truth("tls.honor_cipher_order"),
            disable_tls_1_2: self.truth("tls.disable_tls_1_2"),
            disable_tls_1_3: self.truth("tls.disable_tls_1_3"),
            dhparams: self.path("tls.dhparams"),
            key_file: self.path("tls.key_file"),
            additional_certificates: self.paths("tls.additional_certificates"),
            clients: ClientAuthPolicy {
                mode: self
                    .parsed("tls.client_certificates", ClientCertificates::parse)
                    .unwrap_or(ClientCertificates::Off),
                authorities: self.path("tls.client_ca"),
                key: "tls.client_ca".to_owned(),
                origin: self.text("tls.client_ca").origin,
                revocation_lists: self.path("tls.client_crl"),
                lists_key: "tls.client_crl".to_owned(),
                lists_origin: self.text("tls.client_crl").origin,
            },
            offers: if self.truth("http2") { HttpVersions::Http2AsWell } else { HttpVersions::Http1 },
            origins: TlsOrigins {
                ciphers: self.text("tls.ciphers").origin,
                ciphersuites: self.text("tls.ciphersuites").origin,
                dhparams: self.text("tls.dhparams").origin,
                key_file: self.text("tls.key_file").origin,
                additional_certificates: self.text("tls.additional_certificates").origin,
            },
        };
        if settings.disable_tls_1_2 && settings.disable_tls_1_3 {
            let origin = self.text("tls.disable_tls_1_3").origin;
            let message = "TLS 1.2 and TLS 1.3 are both disabled: no client could connect";
            self.problem("tls.disable_tls_1_3", &origin, message);
        }
        if settings.clients.is_without_authorities() {
            let origin = self.text("tls.client_certificates").origin;
            let message = "without tls.client_ca no certificate of a client can be judged";
            self.problem("tls.client_certificates", &origin, message);
        }
        settings
    }
}
