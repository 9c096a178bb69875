//! Behind the proxies that people use: login, console and upload through each, and the daemon knows the real client.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{HEADER, LIST};
use crate::console::client::{BINARY, Console, FINAL, UPGRADE, WebSocket};
use crate::spice::{Viewer, echoing_machine, target};
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Session, Site};
use crate::upload::{PATH, field, file, form, kind, noise};

/// The client's address, at the proxy.
const CLIENT: &str = "127.0.0.55";
const FORGED: &str = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n";

/// A proxy in front, ended when dropped.
pub(super) struct Front {
    child: Child,
    pub(super) address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Front {
    /// Writes its configuration with its directory and its port, and waits until it listens.
    pub(super) fn start(
        program: &str,
        arguments: &[&str],
        configuration: impl Fn(&Path, u16) -> String,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let file = directory.path().join("configuration");
        std::fs::write(&file, configuration(directory.path(), port)).unwrap();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg(&file)
            .env("HOME", directory.path())
            .env("XDG_DATA_HOME", directory.path());
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut front = Self { child: command.spawn().unwrap(), address, directory };
        eventually("the front listens", || {
            let ended = front.child.try_wait().unwrap();
            assert!(ended.is_none(), "{program} ended: {}", front.log());
            TcpStream::connect(address).is_ok()
        });
        front
    }

    pub(super) fn log(&self) -> String {
        let log: PathBuf = self.directory.path().join("log");
        std::fs::read_to_string(log).unwrap_or_default()
    }

    fn nginx(gate: &Nodegate) -> Self {
        let gate = gate.address();
        Self::start("nginx", &["-e", "/dev/null", "-c"], |run, port| {
            let run = run.display();
            format!(
                "daemon off; master_process off; pid {run}/pid; error_log {run}/error;\n\
                 events {{ }}\n\
                 http {{\n\
                   client_body_temp_path {run}/body; proxy_temp_path {run}/proxy; fastcgi_temp_path {run}/f;\n\
                   uwsgi_temp_path {run}/u; scgi_temp_path {run}/s; access_log off;\n\
                   map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
                   server {{ listen 127.0.0.1:{port}; client_max_body_size 0;\n\
                     location / {{ proxy_pass https://{gate}; proxy_ssl_verify off; proxy_http_version 1.1;\n\
                       proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade;\n\
                       proxy_set_header Connection $connection_upgrade;\n\
                       proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
                       proxy_request_buffering off; proxy_buffering off; }} }}\n\
                 }}\n"
            )
        })
    }

    fn caddy(gate: &Nodegate) -> Self {
        let gate = gate.address();
        Self::start("caddy", &["run", "--adapter", "caddyfile", "--config"], |_, port| {
            format!(
                "{{\n admin off\n auto_https off\n}}\n\
                 http://:{port} {{\n bind 127.0.0.1\n reverse_proxy https://{gate} {{\n\
                 transport http {{\n tls_insecure_skip_verify\n }}\n }}\n}}\n"
            )
        })
    }

    /// With these lines in the section of the server.
    fn haproxy(mode: &str, front: &str, server: &str) -> Self {
        Self::start("haproxy", &["-db", "-f"], |_, port| {
            format!(
                "global\n  nbthread 1\n\
                 defaults\n  mode {mode}\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
                 \x20 timeout tunnel 60s\n\
                 frontend front\n  bind 127.0.0.1:{port}\n{front}  default_backend gate\n\
                 backend gate\n  server gate {server}\n"
            )
        })
    }
}

/// A connection of the client to nodegate through the front.
type Connect<'c> = &'c dyn Fn() -> Session;

fn assert_daemon_gets_the_client(site: &Site, what: &str) {
    assert_eq!(site.daemon.last().header("PVEClientIP"), Some(CLIENT), "{what}");
}

fn login(site: &Site, connect: Connect<'_>) {
    let form = format!("Content-Type: application/x-www-form-urlencoded\r\n{FORGED}");
    let path = "/api2/json/access/ticket";
    let reply = connect().request("POST", path, &form, b"username=root%40pam&password=demo");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_daemon_gets_the_client(site, "login");
    eventually("the log names the client", || {
        site.access_log().lines().any(|line| line.starts_with(CLIENT) && line.contains("\"POST "))
    });
}

fn console(site: &Site, connect: Connect<'_>) {
    let console = Console::listen();
    let headers = [site.cookie("root@pam").as_str(), FORGED, UPGRADE].concat();
    let mut session = connect();
    let reply = session.request("GET", &console.path(site, "root@pam"), &headers, b"");
    assert_eq!(reply.status, 101, "{}", reply.text());
    assert_daemon_gets_the_client(site, "console");
    let (mut socket, mut machine) = (WebSocket::of(session), console.accept());
    socket.send(FINAL | BINARY, b"to the machine");
    let mut received = [0; 14];
    machine.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"to the machine");
    let picture = noise(200_000);
    let sent = picture.clone();
    let painting = std::thread::spawn(move || machine.write_all(&sent));
    let mut seen = Vec::new();
    while seen.len() < picture.len() {
        let frame = socket.receive();
        assert_eq!(frame.opcode, BINARY);
        seen.extend(frame.payload);
    }
    assert!(seen == picture);
    painting.join().unwrap().unwrap();
}

fn upload(site: &Site, connect: Connect<'_>) {
    let content = noise(1_000_000);
    let body = form(&[field("content", "iso"), file("a.iso", &content)]);
    let headers = [&site.cookie("root@pam"), &site.csrf("root@pam"), &kind(), FORGED].concat();
    let reply = connect().request("POST", PATH, &headers, &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let last = site.daemon.last();
    assert!(last.upload.as_ref().unwrap() == &content);
    assert_daemon_gets_the_client(site, "upload");
}

fn all(site: &Site, connect: Connect<'_>) {
    login(site, connect);
    console(site, connect);
    upload(site, connect);
}

/// The client speaks clear HTTP with the front.
fn clear(front: &Front) -> impl Fn() -> Session {
    let address = front.address;
    move || Session::plain_from(CLIENT, address)
}

/// The client speaks TLS with nodegate, through the front.
fn through(front: &Front) -> impl Fn() -> Session {
    let address = front.address;
    move || Session::tls_behind(b"", CLIENT, address).unwrap()
}

/// The daemon sees the client's address at logins, consoles and uploads.
#[test]
fn nginx_passes_the_client_to_the_daemon() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[HEADER, LIST]);
    all(&site, &clear(&Front::nginx(&gate)));
}

/// The daemon sees the client's address at logins, consoles and uploads.
#[test]
fn caddy_passes_the_client_to_the_daemon() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[HEADER, LIST]);
    let front = Front::caddy(&gate);
    all(&site, &clear(&front));
    assert!(front.log().contains("serving"), "{}", front.log());
}

/// The daemon sees the client's address at logins, consoles and uploads.
#[test]
fn haproxy_header_passes_the_client_on() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[HEADER, LIST]);
    let server = format!("{} ssl verify none", gate.address());
    all(&site, &clear(&Front::haproxy("http", "  option forwardfor\n", &server)));
    let gate = Nodegate::start(&site, &["real_ip.header=Forwarded", LIST]);
    let server = format!("{} ssl verify none", gate.address());
    let adds = "  http-request add-header Forwarded for=%[src]\n";
    all(&site, &clear(&Front::haproxy("http", adds, &server)));
}

/// The daemon sees the client's address at logins, consoles and uploads.
#[test]
fn haproxy_proxy_protocol_passes_the_client_on() {
    let site = Site::pve();
    for version in ["send-proxy", "send-proxy-v2"] {
        let gate = Nodegate::start(&site, &["listen.proxy_protocol=1", LIST]);
        // Its checks come with a header without an address.
        let server = format!("{} {version} check inter 200 check-ssl verify none", gate.address());
        all(&site, &through(&Front::haproxy("tcp", "", &server)));
    }
}

/// The daemon sees the client's address at logins, consoles and uploads.
#[test]
fn haproxy_over_plaintext_passes_the_client_on() {
    let site = Site::pve();
    let table = "[[listener]]\nname = \"clear\"\naddress = \"127.0.0.1\"\nport = 0\ntls = false\nproxy_protocol = true\n";
    site.write("/etc/nodegate/pve.toml", table);
    let gate = Nodegate::start(&site, &[LIST]);
    let server = format!("{} send-proxy-v2-ssl-cn proxy-v2-options crc32c", gate.listener("clear"));
    all(&site, &clear(&Front::haproxy("http", "", &server)));
}

#[test]
fn tunnels_behind_haproxy_log_the_viewer() {
    let site = Site::pve();
    let machine = echoing_machine();
    let gate = crate::spice::gate(&site, &["listen.proxy_protocol=1", LIST]);
    let front = Front::haproxy("tcp", "", &format!("{} send-proxy-v2", gate.address()));
    let mut viewer = Viewer::tunnel_at(front.address, &target(&site, machine.address().port()));
    viewer.send(b"hello");
    viewer.expect(b"hello");
    assert!(
        site.access_log().lines().any(|line| line.starts_with("127.0.0.1 - ") && line.contains("\" 200 "))
    );
}
