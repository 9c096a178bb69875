//! The TLS side of the listening port: OpenSSL contexts from settings and certificates.
//!
//! A context starts from OpenSSL's own defaults, so `/etc/ssl/openssl.cnf` stays in effect. nodegate changes only
//! what the settings name (manual, "SSL Cipher Suite" and following sections).

mod acceptor;
mod certificate;
mod certificate_choice;
pub mod certificate_files;
pub mod certificate_reloader;
mod client_auth;
mod connection_info;
mod contexts;
mod key_algorithm;
mod ocsp;
mod pem;
mod revocation;
pub mod session_tickets;
mod sni;
mod stream;
mod usability;

pub use self::acceptor::{HandshakeError, TlsAcceptor};
pub use self::revocation::CertificateFault;
pub use self::stream::{ClientStream, TlsStream, WriteBuffers, is_closed};
pub use crate::tls::client_auth::ClientIdentity;
pub use crate::tls::connection_info::TlsSession;

use std::ffi::c_void;

use openssl::dh::Dh;
use openssl::error::ErrorStack;
use openssl::ssl::{
    AlpnError, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVersion,
    select_next_proto,
};

use crate::config::diagnostic::Diagnostic;
use crate::config::settings::{ClientAuthPolicy, ProtocolVersions, TlsSettings};
use crate::tls::client_auth::ClientTrust;

/// Diffie-Hellman parameters of 2048 bits (RFC 2412's SKIP group), for DHE suites when `tls.dhparams` is unset.
const SKIP_2048: &[u8] = include_bytes!("skip2048.pem");

/// The protocols in ALPN by default. HTTP/2 has no reason phrase, and clients read the phrase.
const ALPN: &[u8] = b"\x08http/1.1";
/// The same with HTTP/2 switched on.
const ALPN_WITH_HTTP2: &[u8] = b"\x02h2\x08http/1.1";

/// An asynchronous stream needs it: a pending write may be repeated from another place in memory.
pub const STREAM_MODE: SslMode = SslMode::ENABLE_PARTIAL_WRITE.union(SslMode::ACCEPT_MOVING_WRITE_BUFFER);

/// Bytes of two full records with the overhead of TLS. The buffer exists only during a read.
const READ_BUFFER_BYTES: usize = 33_500;

/// A context with all the settings and no certificate yet, or all errors in the settings. With `trust` it asks
/// clients for certificates.
fn build(settings: &TlsSettings, trust: Option<&ClientTrust>) -> Result<SslContextBuilder, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut builder = fresh(settings).map_err(|error| vec![openssl_error(settings, &setup_fault(&error))])?;
    if let Err(error) = builder.set_cipher_list(&settings.ciphers) {
        let message = format!("no usable cipher in CIPHERS: {}", reason(&error));
        problems.push(settings.error("tls.ciphers", message));
    }
    if let Err(error) = builder.set_ciphersuites(&settings.ciphersuites) {
        let message = format!("CIPHERSUITES is not understood: {}", reason(&error));
        problems.push(settings.error("tls.ciphersuites", message));
    }
    if let Err(error) = trust.map_or(Ok(()), |trust| trust.install(&mut builder)) {
        let ClientAuthPolicy { key, origin, .. } = &settings.clients;
        let message = format!("clients cannot be asked for certificates: {}", reason(&error));
        problems.push(Diagnostic::error(origin.clone(), key, message));
    }
    if let Err(message) = set_dhparams(&mut builder, settings) {
        problems.push(settings.error("tls.dhparams", message));
    }
    if problems.is_empty() { Ok(builder) } else { Err(problems) }
}

/// An error of OpenSSL that no single setting causes.
fn openssl_error(settings: &TlsSettings, error: &str) -> Diagnostic {
    Diagnostic { key: "tls".to_owned(), ..settings.error("tls.ciphers", format!("OpenSSL: {error}")) }
}

/// Why OpenSSL makes no context at all: usually its own configuration.
fn setup_fault(error: &ErrorStack) -> String {
    let has = |wanted: &str| error.errors().iter().any(|part| part.reason() == Some(wanted));
    if has("library has no ciphers") {
        return "none of the providers that openssl.cnf activates has ciphers for TLS: activate `default` as well"
            .to_owned();
    }
    let rejected = error.errors().iter().find(|part| part.reason() == Some("bad value"));
    match rejected.and_then(openssl::error::Error::data) {
        Some(command) => format!("openssl.cnf has a value that OpenSSL does not understand: {command}"),
        None => error.to_string(),
    }
}

fn fresh(settings: &TlsSettings) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContextBuilder::new(SslMethod::tls_server())?;
    let mut options = SslOptions::NO_SSLV2
        | SslOptions::NO_SSLV3
        | SslOptions::NO_COMPRESSION
        | SslOptions::NO_RENEGOTIATION
        | SslOptions::SINGLE_DH_USE
        | SslOptions::SINGLE_ECDH_USE;
    options.set(SslOptions::CIPHER_SERVER_PREFERENCE, settings.honor_cipher_order);
    options.set(SslOptions::NO_TLSV1_3, settings.disable_tls_1_3);
    builder.set_options(options);
    if settings.disable_tls_1_2 {
        // An option would leave a gap above TLS 1.1, and OpenSSL disables all versions above a gap.
        builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    } else if builder.min_proto_version() != Some(SslVersion::TLS1_3) {
        // RFC 8996: openssl.cnf or a security level of 0 could allow older ones.
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    }
    if !settings.honor_cipher_order {
        builder.clear_options(SslOptions::CIPHER_SERVER_PREFERENCE);
    }
    // nodegate releases the buffers of an idle connection; RELEASE_BUFFERS would allocate them again for each
    // request.
    // Without the last one OpenSSL looks for issuers to add at each full handshake, in a store that is empty.
    builder.set_mode(STREAM_MODE | SslMode::NO_AUTO_CHAIN);
    builder.set_read_ahead(true);
    read_more_at_once(&mut builder);
    // Session state is in tickets; a cache here would only grow.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_session_id_context(b"nodegate")?;
    let alpn = match settings.offers {
        ProtocolVersions::Http1 => ALPN,
        ProtocolVersions::Http2AsWell => ALPN_WITH_HTTP2,
    };
    builder
        .set_alpn_select_callback(move |_, offered| select_next_proto(alpn, offered).ok_or(AlpnError::NOACK));
    Ok(builder)
}

/// Reads two records at once if the client has sent as much: an upload needs a third fewer reads.
fn read_more_at_once(builder: &mut SslContextBuilder) {
    unsafe extern "C" {
        fn SSL_CTX_set_default_read_buffer_len(context: *mut c_void, length: usize);
    }
    // SAFETY: the builder's context is valid as long as the builder, and OpenSSL only stores the length in it.
    unsafe { SSL_CTX_set_default_read_buffer_len(builder.as_ptr().cast(), READ_BUFFER_BYTES) }
}

fn set_dhparams(builder: &mut SslContextBuilder, settings: &TlsSettings) -> Result<(), String> {
    let pem = match &settings.dhparams {
        None => SKIP_2048.to_vec(),
        Some(path) => std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?,
    };
    let place =
        settings.dhparams.as_ref().map_or_else(|| "built-in".into(), |path| path.display().to_string());
    let dh = Dh::params_from_pem(&pem).map_err(|_| format!("{place}: holds no DH parameters in PEM form"))?;
    builder.set_tmp_dh(&dh).map_err(|error| format!("{place}: {}", reason(&error)))
}

/// The readable part of an OpenSSL error.
fn reason(error: &ErrorStack) -> String {
    error.errors().iter().rev().find_map(openssl::error::Error::reason).unwrap_or("unknown error").to_owned()
}
