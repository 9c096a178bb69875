//! A product that is given only as a profile, with a daemon that a function plays.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use nodegate_standin::{Certificate, KeyKind};

use super::nodegate::command;
use super::{Nodegate, Site};

/// The beginning of each profile.
const COMMON: &str = r#"
[listen]
address = "127.0.0.1"
port = 0

[node]
name = "solo"

[backend]
address = "BACKEND"

[log]
access = "/srv/NAME/access.log"

[[product.certificate]]
file = "/srv/NAME/tls.crt"
key = "/srv/NAME/tls.key"
"#;

/// Tickets and CSRF tokens in the form of the built-in products, with this header and this file of the CSRF secret.
pub fn usual_grammar(header: &str, secret: &str) -> String {
    format!(
        r#"
[product.auth.ticket_form]
fields = ["prefix", "user", "time"]
separator = ":"
time = "hex8"
signature_separator = "::"
signature = "base64"
half_logins = []

[product.auth.csrf]
header = "{header}"
secret = "{secret}"
key = "hmac-of-file"
mac = "hmac-sha256"
encoding = "base64"
separator = ":"
time = "hex8"
min_age = -300
max_age = 7200
"#
    )
}

/// A profile whose absolute paths lie below the site's directory, so that no `--root` is needed. `settings` begins the
/// file, and `product` is a part of `[product]`.
pub fn profile_without_root(site: &Site, settings: &str, product: &str) -> String {
    let root = site.root().to_str().unwrap();
    let grammar = usual_grammar("CSRFPreventionToken", &format!("{root}/etc/pve/pve-www.key"));
    let text = format!(
        r#"
        {settings}
        [backend]
        address = "{}"
        [log]
        access = "{root}/log/access.log"
        [product]
        name = "trial"
        protocol = "https"
        server = "trial"
        legacy_file = "{root}/etc/default/trial"
        {product}
        [[product.certificate]]
        file = "{root}/etc/pve/local/pve-ssl.pem"
        key = "{root}/etc/pve/local/pve-ssl.key"
        [product.api]
        prefix = "/api2"
        formats = {{ json = "json" }}
        [product.auth]
        cookie = "PVEAuthCookie"
        invalid = "no"
        schemes = ["pkcs1-sha1"]
        user_length = 64
        open = []
        {grammar}
        [[product.auth.ticket]]
        prefix = "PVE"
        key = "{root}/etc/pve/authkey.pub"
        min_age = -300
        max_age = 7200
        "#,
        site.daemon.address()
    );
    site.write("/trial.toml", text);
    site.path("/trial.toml").to_str().unwrap().to_owned()
}

/// A machine with only the product's own files, below `/srv/NAME`.
pub struct CustomProduct {
    pub site: Site,
    /// the path of its profile
    pub profile: String,
    /// the requests that reach its daemon
    pub requests: Receiver<String>,
    name: &'static str,
}

impl CustomProduct {
    /// `answer` gives the daemon's JSON for a request.
    pub fn new(name: &'static str, profile: &str, answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let site = Site::pve();
        std::fs::remove_dir_all(site.path("/etc")).unwrap();
        let (address, requests) = daemon(answer);
        let path = format!("/srv/{name}/profile.toml");
        let common = COMMON.replace("BACKEND", &address).replace("NAME", name);
        site.write(&path, common + profile);
        let pair = Certificate::ca().issue(&format!("{name}.example.com"), &[], KeyKind::EcP256);
        site.write(&format!("/srv/{name}/tls.crt"), pair.certificate_pem());
        site.write(&format!("/srv/{name}/tls.key"), pair.key_pem());
        let profile = site.path(&path).to_str().unwrap().to_owned();
        Self { site, profile, requests, name }
    }

    /// Only the profile: the command line has no setting.
    pub fn start(&self) -> Nodegate {
        let root = self.site.root().to_str().unwrap();
        Nodegate::spawn(&mut command(&["--root", root, "--debug", "run", &self.profile]))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.site.path(&format!("/srv/{}/access.log", self.name))).unwrap_or_default()
    }
}

fn daemon(answer: impl Fn(&str) -> String + Send + 'static) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = read_request(&mut stream);
            let body = answer(&request);
            let head = "HTTP/1.1 200 fine\r\nContent-Type: application/json\r\nConnection: close\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

fn read_request(stream: &mut TcpStream) -> String {
    let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return String::from_utf8(request).unwrap();
            }
        }
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => request.extend(&chunk[..count]),
            _ => return String::from_utf8(request).unwrap(),
        }
    }
}
