//! A product whose grammar has nothing in common with the built-in ones, given only as data: another prefix, one format,
//! Ed25519 tickets with other separators, and its own CSRF scheme.

use std::io::Write as _;
use std::net::TcpListener;
use std::ops::Deref;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nodegate_standin::now;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;

use crate::console::client::{BINARY, FINAL, WebSocket, read};
use crate::support::nodegate::eventually;
use crate::support::{CustomProduct, Outcome};

const PROFILE: &str = r#"
[product]
name = "vault"
daemon = "vaultproxy"
protocol = "https"
server = "vault"
routes = "vault.routes"
secret_parameters = ["pin"]

[product.api]
prefix = "/rest/v1"
format = "json"

[product.backend]
client_header = "X-Vault-Client"

[product.console]
upgrade = "websocket"
ports = "PORT-PORT"

[[product.console.ticket]]
parameter = "pass"
calls = ["GET /boxes/{box}/screen"]

[product.auth]
cookie = "VaultSession"
api_token = "VaultToken"
invalid = "this ticket is not valid"
schemes = ["ed25519"]
user_length = 64
open = ["POST /sessions"]

[product.auth.ticket_form]
fields = ["prefix", "time", "user"]
separator = "."
time = "decimal"
signature_separator = "~"
signature = "base64url"
half_logins = [{ prefix = "pending-" }]

[product.auth.csrf]
header = "X-Vault-Proof"
secret = "/srv/vault/proof.key"
key = "file"
mac = "hmac-sha512"
encoding = "hex"
separator = "."
time = "decimal"
min_age = -60
max_age = 900

[[product.auth.login]]
call = "POST /sessions"
shows = ["data.ticket"]

[[product.auth.ticket]]
prefix = "V1"
key = "/srv/vault/ticket.pub"
min_age = -60
max_age = 3600
"#;
const ROUTES: &str = "/boxes GET: POST:\n/boxes/{box}/screen GET:w\n/sessions POST:o\n";
const PROOF_KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
const USER: &str = "ann@vault";

/// A machine of the product, with a stand-in for its daemon.
struct Vault {
    product: CustomProduct,
    key: PKey<Private>,
    console: TcpListener,
}

impl Deref for Vault {
    type Target = CustomProduct;

    fn deref(&self) -> &CustomProduct {
        &self.product
    }
}

impl Vault {
    fn new() -> Self {
        let key = PKey::generate_ed25519().unwrap();
        let console = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = console.local_addr().unwrap().port().to_string();
        let ticket = ticket_with(&key, USER, now());
        let profile = PROFILE.replace("PORT", &port);
        let product = CustomProduct::new("vault", &profile, move |request| {
            let target = request.split(' ').nth(1).unwrap_or_default();
            match target.split('?').next() {
                Some("/rest/v1/sessions") => format!(r#"{{"data":{{"ticket":"{ticket}"}}}}"#),
                Some("/rest/v1/boxes/a/screen") => format!(r#"{{"data":{{"port":{port}}}}}"#),
                _ => r#"{"data":["a"]}"#.to_owned(),
            }
        });
        product.site.write("/srv/vault/vault.routes", ROUTES);
        product.site.write("/srv/vault/ticket.pub", key.public_key_to_pem().unwrap());
        product.site.write("/srv/vault/proof.key", PROOF_KEY);
        Self { product, key, console }
    }

    fn cookie(&self, user: &str, time: i64) -> String {
        format!("Cookie: VaultSession={}\r\n", ticket_with(&self.key, user, time))
    }

    /// `check` of the profile after one text in it was replaced.
    fn check_with(&self, old: &str, new: &str) -> Outcome {
        let text = std::fs::read_to_string(&self.profile).unwrap();
        assert!(text.contains(old), "{old}");
        let changed = self.profile.replace("profile.toml", "changed.toml");
        std::fs::write(&changed, text.replacen(old, new, 1)).unwrap();
        Outcome::ask(&self.site, &["check", &changed])
    }
}

/// `V1.TIME.USER~SIGNATURE`.
fn ticket_with(key: &PKey<Private>, user: &str, time: i64) -> String {
    let text = format!("V1.{time}.{user}");
    let mut signer = Signer::new_without_digest(key).unwrap();
    let signature = signer.sign_oneshot_to_vec(text.as_bytes()).unwrap();
    format!("{text}~{}", URL_SAFE_NO_PAD.encode(signature))
}

/// `TIME.MAC`.
fn proof(user: &str, time: i64) -> String {
    let key = PKey::hmac(PROOF_KEY).unwrap();
    let mut signer = Signer::new(MessageDigest::sha512(), &key).unwrap();
    let mac = signer.sign_oneshot_to_vec(format!("{time}.{user}").as_bytes()).unwrap();
    let mac: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X-Vault-Proof: {time}.{}\r\n", mac.concat())
}

#[test]
fn a_login_ticket_reads_and_its_proof_writes() {
    let vault = Vault::new();
    let gate = vault.start();
    let reply = gate.request("POST", "/rest/v1/sessions", "", b"user=ann&pin=1");
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(vault.requests.recv().unwrap().starts_with("POST /rest/v1/sessions HTTP/1.1\r\n"));
    let cookie = format!("Cookie: VaultSession={}\r\n", reply.json()["data"]["ticket"].as_str().unwrap());

    assert_eq!(gate.get("/rest/v1/boxes", &cookie).json()["data"][0], "a");
    let sent = vault.requests.recv().unwrap();
    assert!(sent.starts_with("GET /rest/v1/boxes HTTP/1.1\r\n"), "{sent}");
    assert!(sent.to_lowercase().contains("\r\nx-vault-client: 127.0.0.1\r\n"), "{sent}");

    let write = |headers: &str| gate.request("POST", "/rest/v1/boxes", headers, b"name=b");
    let denied = (401, "Permission denied - invalid csrf token");
    assert_eq!(write(&cookie).status_and_reason(), denied);
    for wrong in [proof("bob@vault", now()), proof(USER, now() - 900), proof(USER, now() + 120)] {
        assert_eq!(write(&format!("{cookie}{wrong}")).status_and_reason(), denied, "{wrong}");
    }
    assert_eq!(write(&format!("{cookie}{}", proof(USER, now()))).status, 200);
    assert!(vault.requests.recv().unwrap().ends_with("\r\n\r\nname=b"));
    eventually("the user in the log", || vault.log().contains("127.0.0.1 - ann@vault ["));
}

#[test]
fn forged_expired_and_half_tickets_are_rejected() {
    let vault = Vault::new();
    let gate = vault.start();
    let other_key = PKey::generate_ed25519().unwrap();
    let good = ticket_with(&vault.key, USER, now());
    let forged = good.replace("ann@", "bob@");
    let (text, signature) = good.split_once('~').unwrap();
    for (what, ticket) in [
        ("another key", ticket_with(&other_key, USER, now())),
        ("another user", forged),
        ("expired", ticket_with(&vault.key, USER, now() - 3600)),
        ("from the future", ticket_with(&vault.key, USER, now() + 120)),
        ("the second factor is missing", ticket_with(&vault.key, "pending-ann@vault", now())),
        ("no user", ticket_with(&vault.key, "ann", now())),
        ("no signature", format!("{text}~")),
        ("padding", format!("{good}=")),
        ("the separators of another product", format!("{}::{signature}", text.replace('.', ":"))),
        ("the ticket of another product", vault.site.keys.ticket("V1", USER, now())),
    ] {
        let reply = gate.get("/rest/v1/boxes", &format!("Cookie: VaultSession={ticket}\r\n"));
        assert_eq!(reply.status_and_reason(), (401, "this ticket is not valid"), "{what}");
        assert_eq!(reply.json()["message"], "this ticket is not valid", "failures are JSON");
    }
    assert_eq!(
        gate.get("/api2/json/boxes", &vault.cookie(USER, now())).status,
        404,
        "no API of another product"
    );
    assert!(vault.requests.try_recv().is_err(), "nothing reached the daemon");
}

#[test]
fn an_api_token_needs_no_proof() {
    let vault = Vault::new();
    let gate = vault.start();
    let token = "Authorization: VaultToken=ann@vault!ci=f4b0a1c2-0000-4000-8000-000000000000\r\n";
    assert_eq!(gate.request("POST", "/rest/v1/boxes", token, b"name=b").status, 200);
    let sent = vault.requests.recv().unwrap();
    assert!(sent.to_lowercase().contains("\r\nauthorization: vaulttoken "), "{sent}");
    eventually("the token's name in the log", || vault.log().contains(" - ann@vault!ci ["));
    assert!(!vault.log().contains("f4b0a1c2"));
}

#[test]
fn a_console_opens_and_its_secrets_are_masked() {
    let vault = Vault::new();
    let gate = vault.start();
    let path = "/rest/v1/boxes/a/screen?pass=s3cret&pin=1234&width=80";
    let (mut socket, _) = WebSocket::open(&gate, path, &vault.cookie(USER, now())).unwrap();
    let (mut stream, _) = vault.console.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.send(BINARY | FINAL, b"hello");
    assert_eq!(read(&mut stream, 5), b"hello");
    stream.write_all(b"world").unwrap();
    assert_eq!(socket.data(5), b"world");
    assert!(vault.requests.recv().unwrap().starts_with("GET /rest/v1/boxes/a/screen?pass=s3cret&pin=1234"));
    assert_eq!(gate.get("/rest/v1/boxes?pin=1234", &vault.cookie(USER, now())).status, 200);
    eventually("the masked pin", || vault.log().contains("/rest/v1/boxes?pin=*** "));
    drop((socket, stream));
    assert_eq!(gate.stop().code(), Some(0));
    assert!(vault.log().contains("/rest/v1/boxes/a/screen?pass=***&pin=***&width=80 "), "{}", vault.log());
    assert!(!vault.log().contains("s3cret") && !vault.log().contains("1234"), "{}", vault.log());
}

/// `check` finds each of these before the product is served.
#[test]
fn a_grammar_that_weakens_checks_does_not_load() {
    let vault = Vault::new();
    for (old, new, complaint) in [
        ("schemes = [\"ed25519\"]", "schemes = []", "product.auth.schemes"),
        ("half_logins = [{ prefix = \"pending-\" }]\n", "", "half_logins"),
        ("max_age = 3600", "max_age = 999999999", "max_age"),
        ("X-Vault-Proof", "Cookie", "product.auth.csrf.header"),
        ("separator = \".\"\ntime", "separator = \"a\"\ntime", "product.auth.ticket_form.separator"),
        ("mac = \"hmac-sha512\"", "mac = \"md5\"", "md5"),
        ("\"ed25519\"", "\"none\"", "none"),
        ("prefix = \"/rest/v1\"", "prefix = \"/\"", "product.api.prefix"),
        ("[product.api]\nprefix = \"/rest/v1\"\nformat = \"json\"\n", "", "product.api: is missing"),
        ("upgrade = \"websocket\"", "upgrade = \"raw\"", "raw"),
    ] {
        let outcome = vault.check_with(old, new);
        assert_eq!(outcome.code, 1, "{new}: {outcome:?}");
        let text = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(text.contains(complaint), "{new}: {text}");
    }
    vault.site.write("/srv/vault/proof.key", "short");
    vault.site.write("/srv/vault/ticket.pub", vault.site.keys.public_pem());
    let outcome = vault.check_with("port = 0", "port = 0");
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(text.contains("is shorter than 32 bytes"), "{text}");
    assert!(text.contains("no scheme in product.auth.schemes"), "{text}");
}
