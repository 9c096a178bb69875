//! The TLS side of the listening port: OpenSSL contexts from settings and certificates, one for each set of these.
//!
//! The context starts from OpenSSL's own defaults, so that `/etc/ssl/openssl.cnf` stays in force; only what the
//! settings name is changed (manual, "SSL Cipher Suite" and following sections).

mod choice;
mod client_certificate;
mod contexts;
mod pair;
pub mod pair_files;
mod pem;
pub mod renewal;
mod selection;
mod session;
mod staple;
mod stream;
pub mod ticket_keys;
mod usability;

pub use self::client_certificate::Identity;
pub use self::session::TlsSession;
pub use self::stream::{ClientStream, TlsStream};

use std::ffi::c_void;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use openssl::dh::Dh;
use openssl::error::ErrorStack;
use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode,
    SslVersion, select_next_proto,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Config;
use crate::config::problem::{Origin, Problem, Severity};
use crate::config::product::Protocol;
use crate::config::settings::{ClientDemand, Offers, TlsSettings};
use crate::status::report::ServedCertificate;
use pair::Pair;
use pair_files::Contents;
use ticket_keys::TicketKeys;

/// Diffie-Hellman parameters of 2048 bits (RFC 2412's SKIP group), for DHE suites when `tls.dhparams` is unset.
const SKIP_2048: &[u8] = include_bytes!("skip2048.pem");

/// What ALPN offers: HTTP/2 has no reason phrase, and clients read it.
const ALPN: &[u8] = b"\x08http/1.1";
/// The same where HTTP/2 is switched on.
const ALPN_WITH_HTTP2: &[u8] = b"\x02h2\x08http/1.1";

/// What an asynchronous stream needs: a write that waits may come back from another place in memory.
pub const STREAM_MODE: SslMode = SslMode::ENABLE_PARTIAL_WRITE.union(SslMode::ACCEPT_MOVING_WRITE_BUFFER);

/// Bytes of two full records with what TLS adds; there only while something is being read.
const READ_BUFFER: usize = 33_500;

/// Accepts TLS connections with certificates that may be renewed.
pub struct Acceptor {
    served: RwLock<Served>,
}

#[derive(Clone)]
struct Served {
    /// for each demand of a listener the one that handshakes begin with; the name that a client asks for may lead to
    /// another one
    contexts: Arc<[(ClientDemand, SslContext)]>,
    certificates: Arc<[ServedCertificate]>,
    /// what was wrong with these and others
    problems: Arc<[String]>,
    /// of the files that the certificates were chosen from
    contents: Contents,
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("no handshake within {} s", .0.as_secs())]
    Deadline(Duration),
    #[error(transparent)]
    Tls(#[from] openssl::ssl::Error),
    #[error("the client's certificate has ended since its session began")]
    Outdated,
    #[error("the listener is gone, and with it what it asked of clients")]
    Gone,
    #[error(transparent)]
    Setup(#[from] ErrorStack),
}

impl Acceptor {
    /// The acceptor, if any pair can be served, and everything that was wrong on the way there.
    ///
    /// Tickets are sealed with `keys`, which outlive the acceptor. Where the port is of use without TLS as well, what is
    /// wrong keeps nobody from serving.
    pub fn load(config: &Config, keys: &Arc<TicketKeys>) -> (Option<Self>, Vec<Problem>) {
        let (acceptor, problems) = Self::load_strictly(config, keys);
        match (config.product.protocol, &acceptor) {
            (Protocol::Https, _) => (acceptor, problems),
            (Protocol::Connect, None) => (None, vec![without_tls(&problems)]),
            (Protocol::Connect, Some(_)) => {
                let mild = |problem| Problem { severity: Severity::Warning, ..problem };
                (acceptor, problems.into_iter().map(mild).collect())
            }
        }
    }

    fn load_strictly(config: &Config, keys: &Arc<TicketKeys>) -> (Option<Self>, Vec<Problem>) {
        let settings = &config.settings.tls;
        let contents = pair_files::contents(config);
        let unsound = build(settings).err().unwrap_or_default();
        let (pairs, mut problems) = choice::choose(config);
        let sound = unsound.is_empty();
        problems.extend(unsound);
        let Some(pairs) = pairs.filter(|_| sound) else { return (None, problems) };
        let mut by_demand: Vec<(ClientDemand, SslContext)> = Vec::new();
        let mut complete = true;
        // Where one CONNECT is all that is asked, there is but one version of it.
        let offers = match config.product.protocol {
            Protocol::Https => settings.offers,
            Protocol::Connect => Offers::Http1,
        };
        for demand in config.settings.listeners.iter().map(|listener| &listener.clients) {
            if by_demand.iter().any(|(known, _)| known == demand) {
                continue;
            }
            match contexts::of(
                &TlsSettings { clients: demand.clone(), offers, ..settings.clone() },
                &pairs,
                keys,
            ) {
                Ok((context, warnings)) => {
                    problems.extend(warnings.into_iter().filter(|_| by_demand.is_empty()));
                    by_demand.push((demand.clone(), context));
                }
                Err(more) => {
                    problems.extend(more);
                    complete = false;
                }
            }
        }
        let certificates = pairs.iter().map(Pair::described).collect();
        let texts = problems.iter().map(ToString::to_string).collect();
        let served = Served { contexts: by_demand.into(), certificates, problems: texts, contents };
        (complete.then(|| Self { served: RwLock::new(served) }), problems)
    }

    fn served(&self) -> Served {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong with certificates and keys, though something is served; of the last time that they were loaded.
    pub fn problems(&self) -> Vec<String> {
        self.served().problems.to_vec()
    }

    fn contents(&self) -> Contents {
        self.served().contents
    }

    /// From the next connection on, what the other one would serve.
    fn replace(&self, other: Self) {
        let next = other.served.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// The profile's own first.
    pub fn certificates(&self) -> Vec<ServedCertificate> {
        self.served().certificates.to_vec()
    }

    /// Performs the handshake within `deadline`, and asks of the client what the listener demands.
    pub async fn accept(
        &self,
        demand: &ClientDemand,
        stream: TcpStream,
        deadline: Duration,
    ) -> Result<TlsStream, HandshakeError> {
        let contexts = self.served().contexts;
        let (_, context) = contexts.iter().find(|(known, _)| known == demand).ok_or(HandshakeError::Gone)?;
        let mut stream = TlsStream::new(Ssl::new(context)?, stream)?;
        drop(contexts);
        match timeout(deadline, stream.accept()).await {
            Ok(Ok(())) if stream.is_outdated() => Err(HandshakeError::Outdated),
            Ok(done) => done.map(|()| stream).map_err(HandshakeError::from),
            Err(_) => Err(HandshakeError::Deadline(deadline)),
        }
    }
}

/// What an admin is told where TLS could be spoken.
fn without_tls(problems: &[Problem]) -> Problem {
    let reasons: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
    let message = format!("only served without TLS: {}", reasons.join("; "));
    Problem::warning(Origin::Profile, "product.certificate", message)
}

/// A context with all the settings and no certificate yet, or everything that is wrong with them.
fn build(settings: &TlsSettings) -> Result<SslContextBuilder, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut builder = fresh(settings).map_err(|error| {
        vec![Problem::error(settings.origins.ciphers.clone(), "tls", format!("OpenSSL: {error}"))]
    })?;
    let mut check = |result: Result<(), ErrorStack>, origin: &_, key: &str, what: &str| {
        if let Err(error) = result {
            let message = format!("{what}: {}", reason(&error));
            problems.push(Problem::error(Clone::clone(origin), key, message));
        }
    };
    let origins = &settings.origins;
    check(
        builder.set_cipher_list(&settings.ciphers),
        &origins.ciphers,
        "tls.ciphers",
        "no usable cipher in CIPHERS",
    );
    check(
        builder.set_ciphersuites(&settings.ciphersuites),
        &origins.ciphersuites,
        "tls.ciphersuites",
        "CIPHERSUITES is not understood",
    );
    if let Err(message) = client_certificate::ask(&mut builder, settings) {
        let clients = &settings.clients;
        problems.push(Problem::error(clients.origin.clone(), clients.key.clone(), message));
    }
    if let Err(message) = set_dhparams(&mut builder, settings) {
        problems.push(Problem::error(origins.dhparams.clone(), "tls.dhparams", message));
    }
    if problems.is_empty() { Ok(builder) } else { Err(problems) }
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
        // As an option it would leave a gap above TLS 1.1, and OpenSSL takes what is above a gap for disabled.
        builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    }
    if !settings.honor_cipher_order {
        builder.clear_options(SslOptions::CIPHER_SERVER_PREFERENCE);
    }
    // Buffers are given back when a connection rests: with RELEASE_BUFFERS each request would allocate them anew.
    builder.set_mode(STREAM_MODE);
    builder.set_read_ahead(true);
    read_more_at_once(&mut builder);
    // Sessions travel in tickets; a cache here would only grow.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_session_id_context(b"nodegate")?;
    let alpn = match settings.offers {
        Offers::Http1 => ALPN,
        Offers::Http2AsWell => ALPN_WITH_HTTP2,
    };
    builder
        .set_alpn_select_callback(move |_, offered| select_next_proto(alpn, offered).ok_or(AlpnError::NOACK));
    Ok(builder)
}

/// Two records a read where a client sends as much: an upload needs a third fewer reads.
fn read_more_at_once(builder: &mut SslContextBuilder) {
    unsafe extern "C" {
        fn SSL_CTX_set_default_read_buffer_len(context: *mut c_void, length: usize);
    }
    // SAFETY: the builder's context is valid as long as the builder, and OpenSSL only stores the length in it.
    unsafe { SSL_CTX_set_default_read_buffer_len(builder.as_ptr().cast(), READ_BUFFER) }
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

/// The human half of an OpenSSL error.
fn reason(error: &ErrorStack) -> String {
    error.errors().iter().rev().find_map(openssl::error::Error::reason).unwrap_or("unknown error").to_owned()
}
