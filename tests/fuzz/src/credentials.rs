//! Credentials: nothing passes without a valid signature.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use nodegate::testing::auth::csrf;
use nodegate::testing::auth::ticket;
use nodegate::testing::auth::ticket::{DatedKey, TicketError, TicketRules, recheck_age};
use nodegate::testing::auth::{Authenticator, CredentialHeader, TicketClient};
use nodegate::testing::config::RootDirectory;
use nodegate::testing::config::{AuthRules, SignatureScheme};
use nodegate::testing::config::{Config, ConfigSources};
use nodegate::testing::http::ApiGrammar;
use nodegate::testing::http::{ApiPath, RequestTarget};
use nodegate::testing::upstream::NodeFile;
use tempfile::TempDir;

use crate::vectors::{KEY, MADE, PUBLIC_KEY, SECRET_FILE, rows};

const SCHEMES: &[SignatureScheme] =
    &[SignatureScheme::Pkcs1Sha1, SignatureScheme::Pkcs1Sha256, SignatureScheme::PssSha256];
const USER: &str = "root@pam";

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let options = ConfigSources { root: RootDirectory::new("/".into()), sets: Vec::new() };
    Config::load("pve", &options).unwrap_or_else(|_| panic!("the profile"))
});
static RULES: LazyLock<AuthRules> = LazyLock::new(|| CONFIG.product.auth.clone().unwrap());

/// A gate with the keys of the vectors, and the directory they lie in.
static GATE: LazyLock<(Authenticator, TempDir)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("etc/pve");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("authkey.pub"), PUBLIC_KEY).unwrap();
    std::fs::write(folder.join("pve-www.key"), SECRET_FILE).unwrap();
    let root = RootDirectory::new(directory.path().to_owned());
    let nodes = Arc::new(NodeFile::new(CONFIG.product.nodes.as_ref(), &root, "node1"));
    (Authenticator::new(RULES.clone(), &root, nodes).unwrap(), directory)
});

static CALL: LazyLock<ApiPath> = LazyLock::new(|| {
    match RequestTarget::parse("/api2/json/cluster/options", &ApiGrammar::new(&CONFIG.product).unwrap())
        .unwrap()
    {
        RequestTarget::Api(path) => path,
        RequestTarget::NoSuchUri | RequestTarget::Path(_) => panic!("it is a call"),
    }
});

/// Lines `Cookie`, `Authorization`, CSRF token, distinguished by their first letter.
pub(crate) fn credentials(bytes: &[u8]) {
    let gate = &GATE.0;
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((first, value)) = line.split_first() else { continue };
        let name = match first {
            b'C' => COOKIE,
            b'A' => AUTHORIZATION,
            b'T' => HeaderName::from_static("csrfpreventiontoken"),
            _ => continue,
        };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        headers.append(name, value);
    }
    // No key file is as old as the tickets; signed tickets are rejected by their age.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(MADE.unsigned_abs() + 400_000_000);
    for method in [Method::GET, Method::PUT] {
        let Ok(identity) = gate.authenticate(&method, &CALL, &headers, TicketClient::default, now) else {
            continue;
        };
        let known = identity.client.expect("the call needs a login");
        let CredentialHeader { name, value } = &known.header;
        assert_eq!(name, AUTHORIZATION, "an old ticket passes");
        let text = value.to_str().unwrap();
        assert!(!text.contains(['\r', '\n', ';', ',']), "{text}");
        assert!(!known.user.contains(char::is_whitespace), "{}", known.user);
    }
}

/// A ticket: it is good only if everything before the signature was signed.
pub(crate) fn ticket(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for prefix in ["PVE", "PMG", "PMGQUAR"] {
        let rules = TicketRules {
            form: &RULES.ticket_form,
            prefix,
            schemes: SCHEMES,
            current: DatedKey { key: &KEY, age: 50_000 },
            old: None,
            min_age: -300,
            max_age: 7200,
            key_lifetime: Some(86_400),
            quorate: true,
            realm: (prefix == "PMGQUAR").then_some("quarantine"),
            user_length: 64,
        };
        let Ok(verified) = ticket::verify(&text, &rules, MADE + 5) else { continue };
        let part = |ticket: &str| ticket.rsplit_once("::").unwrap().0.to_owned();
        assert!(rows("ticket").any(|good| part(good) == part(&text)), "forged: {text}");
        assert_eq!(recheck_age(&verified.ticket, &rules, MADE + 5), Ok(()));
        assert_eq!(recheck_age(&verified.ticket, &rules, MADE + 7200), Err(TicketError::Age));
    }
}

/// A CSRF token: it is good only as it was made.
pub(crate) fn csrf(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let secret = csrf::secret_text(SECRET_FILE).unwrap().into_bytes();
    if csrf::is_valid(&text, USER, &secret, &RULES.csrf, MADE + 5) {
        assert!(rows("csrf").any(|good| good == text), "forged: {text}");
    }
    let time = text.split(':').next().and_then(|time| i64::from_str_radix(time, 16).ok());
    let now = time.unwrap_or(MADE).clamp(0, i64::from(u32::MAX));
    let made = csrf::mint(&text, &secret, &RULES.csrf, now).unwrap();
    assert!(csrf::is_valid(&made, &text, &secret, &RULES.csrf, now));
    assert!(!csrf::is_valid(&made, USER, &secret, &RULES.csrf, now) || text == USER);
}
