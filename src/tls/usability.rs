//! Finds out which clients can connect with a certificate, by handshakes in memory as the usual clients make them.
//! Otherwise only users would notice a key on an unusual curve, or ciphers that do not fit the key.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKeyRef, Public};
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslStream, SslVerifyMode, SslVersion};

use super::key_algorithm;

/// Chromium's list; Firefox and Safari accept all of it too.
const BROWSER_CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:\
ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES256-SHA:AES128-GCM-SHA256:AES256-GCM-SHA384:\
AES128-SHA:AES256-SHA";
/// With the hybrid group that OpenSSL has since version 3.5.
const BROWSER_GROUPS: &str = "X25519MLKEM768:X25519:P-256:P-384";
const CLASSICAL_BROWSER_GROUPS: &str = "X25519:P-256:P-384";
const BROWSER_SIGNATURES: &str = "ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256:rsa_pkcs1_sha256:\
ecdsa_secp384r1_sha384:rsa_pss_rsae_sha384:rsa_pkcs1_sha384:rsa_pss_rsae_sha512:rsa_pkcs1_sha512";

/// A handshake takes at most three flights, and one more for another group.
const MAX_FLIGHTS: usize = 10;
/// Programs with OpenSSL's usual security level reject shorter keys.
const MIN_RSA_BITS: u32 = 2048;
/// Programs written in Go reject longer keys.
const MAX_RSA_BITS: u32 = 8192;

/// The clients that can connect with a certificate.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum ClientSupport {
    All,
    /// why some cannot
    Limited(String),
    /// why none can
    NoClient(String),
}

/// Tries a context with one certificate and its `key`.
pub(super) fn client_support(
    server: &SslContext,
    key: &PKeyRef<Public>,
) -> Result<ClientSupport, ErrorStack> {
    let browser = can_connect(server, &browser()?)?;
    let program = can_connect(server, &program()?)?;
    let kind = describe(key);
    let use_instead = "use RSA of 2048 bits or more, or EC on P-256 or P-384";
    let fits = is_usual(key);
    Ok(match (browser, program) {
        (false, false) if fits => ClientSupport::NoClient(format!(
            "no ordinary client can connect with it ({kind}) and these versions and ciphers: see tls.ciphers, \
             tls.ciphersuites"
        )),
        (false, false) => {
            ClientSupport::NoClient(format!("no ordinary client can connect with it ({kind}); {use_instead}"))
        }
        (false, true) if fits => ClientSupport::Limited(format!(
            "browsers cannot connect with it ({kind}) and these versions and ciphers: see tls.ciphers, \
             tls.ciphersuites"
        )),
        (false, true) => {
            ClientSupport::Limited(format!("most browsers cannot connect with it ({kind}); {use_instead}"))
        }
        (true, false) => ClientSupport::Limited(format!(
            "programs that use OpenSSL, such as curl, cannot connect with it ({kind}); {use_instead}"
        )),
        (true, true) => size_fault(key).map_or(ClientSupport::All, ClientSupport::Limited),
    })
}

/// Sizes that some clients reject only when they verify, which these handshakes do not do.
fn size_fault(key: &PKeyRef<Public>) -> Option<String> {
    let kind = describe(key);
    match key.bits() {
        bits if key.id() != Id::RSA || (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) => None,
        bits if bits < MIN_RSA_BITS => Some(format!(
            "programs that use OpenSSL refuse it ({kind}); use RSA of {MIN_RSA_BITS} bits or more"
        )),
        _ => {
            Some(format!("programs written in Go refuse it ({kind}); use RSA of {MAX_RSA_BITS} bits or less"))
        }
    }
}

fn is_usual(key: &PKeyRef<Public>) -> bool {
    let curve = || key.ec_key().ok().and_then(|key| key.group().curve_name());
    match key.id() {
        Id::RSA => true,
        Id::EC => matches!(curve(), Some(openssl::nid::Nid::X9_62_PRIME256V1 | openssl::nid::Nid::SECP384R1)),
        _ => false,
    }
}

fn describe(key: &PKeyRef<Public>) -> String {
    let curve = || key.ec_key().ok().and_then(|key| key.group().curve_name());
    match key.id() {
        Id::RSA => format!("RSA, {} bits", key.bits()),
        Id::RSA_PSS => "RSA-PSS".to_owned(),
        Id::DSA => "DSA".to_owned(),
        Id::ED25519 => "Ed25519".to_owned(),
        Id::ED448 => "Ed448".to_owned(),
        Id::EC => {
            let name = curve().and_then(|curve| curve.short_name().ok());
            format!("EC on {}", name.unwrap_or("a curve without a name"))
        }
        // rust-openssl has no number for newer kinds.
        _ => {
            let der = key.public_key_to_der().unwrap_or_default();
            key_algorithm::post_quantum_name(&der).unwrap_or("an unknown kind of key").to_owned()
        }
    }
}

fn client() -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContextBuilder::new(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    Ok(builder)
}

fn browser() -> Result<SslContext, ErrorStack> {
    let mut builder = client()?;
    builder.set_security_level(1);
    builder.set_cipher_list(BROWSER_CIPHERS)?;
    builder.set_groups_list(BROWSER_GROUPS).or_else(|_| builder.set_groups_list(CLASSICAL_BROWSER_GROUPS))?;
    builder.set_sigalgs_list(BROWSER_SIGNATURES)?;
    Ok(builder.build())
}

/// A client with OpenSSL's defaults.
fn program() -> Result<SslContext, ErrorStack> {
    client().map(SslContextBuilder::build)
}

fn can_connect(server: &SslContext, client: &SslContext) -> Result<bool, ErrorStack> {
    let [to_server, to_client] = [0; 2].map(|_| Rc::new(RefCell::new(VecDeque::new())));
    let end = |context: &SslContext, from: &Bytes, to: &Bytes| {
        SslStream::new(Ssl::new(context)?, MemoryPipe { from: Rc::clone(from), to: Rc::clone(to) })
    };
    let mut server = end(server, &to_server, &to_client)?;
    let mut client = end(client, &to_client, &to_server)?;
    for _ in 0..MAX_FLIGHTS {
        let asked = client.connect();
        let answered = server.accept();
        if asked.is_ok() && answered.is_ok() {
            return Ok(true);
        }
        let is_over = |result: &Result<(), openssl::ssl::Error>| {
            result.as_ref().err().is_some_and(|error| !would_block(error))
        };
        if is_over(&asked) || is_over(&answered) {
            return Ok(false);
        }
    }
    Ok(false)
}

fn would_block(error: &openssl::ssl::Error) -> bool {
    matches!(error.code(), openssl::ssl::ErrorCode::WANT_READ | openssl::ssl::ErrorCode::WANT_WRITE)
}

type Bytes = Rc<RefCell<VecDeque<u8>>>;

/// One end of a connection in memory.
struct MemoryPipe {
    from: Bytes,
    to: Bytes,
}

impl Read for MemoryPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.from.borrow_mut().read(buffer)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for MemoryPipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
