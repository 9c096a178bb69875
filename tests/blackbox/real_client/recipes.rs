//! `docs/operate/reverse-proxies.md`, recipe by recipe: each is read from the page, the real front is started with
//! it, and a client logs in, uploads and uses a console through it. By default, and with `console.origins`.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nodegate_standin::{Certificate, Config, Daemon, KeyKind, Product};

use super::fronts::Front;
use crate::console::client::{BINARY, Console, FINAL, UPGRADE, WebSocket, echo};
use crate::support::{Nodegate, Reply, Session, Site};
use crate::upload::{PATH, field, file, form, kind, noise};

const DOCUMENT: &str = include_str!("../../../docs/operate/reverse-proxies.md");
const NAME: &str = "pve.example.com";
/// Ends a line that is there only for `console.origins`.
const FOR_ORIGINS: &str = "# for console.origins";

/// The fenced block whose info string ends with that name.
fn block(name: &str) -> &'static str {
    let mut fences = DOCUMENT.split("\n```");
    let wanted = fences.find(|block| block.lines().next().unwrap().split(' ').nth(1) == Some(name));
    wanted.unwrap_or_else(|| panic!("no block '{name}'")).split_once('\n').unwrap().1
}

/// A recipe as it stands, or without what only `console.origins` needs.
fn recipe(name: &str, for_origins: bool) -> String {
    let lines = block(name).lines().filter(|line| for_origins || !line.ends_with(FOR_ORIGINS));
    lines.map(|line| line.to_owned() + "\n").collect()
}

/// The names of the reader in a recipe, under the names of the test.
struct Names<'a> {
    run: &'a Path,
    port: u16,
    gate: u16,
}

impl Names<'_> {
    fn put_into(&self, text: &str) -> String {
        let run = self.run.display();
        text.replace("/etc/ssl/", &format!("{run}/"))
            .replace("/etc/pve/", &format!("{run}/"))
            .replace("10.0.0.10:8006", &format!("127.0.0.1:{}", self.gate))
            .replace("node1.example.com:8006", &format!("localhost:{}", self.gate))
    }

    fn write_certificates(&self, site: &Site) {
        let certificate = Certificate::ca().issue(NAME, &[], KeyKind::EcP256);
        let write = |name: &str, text: String| std::fs::write(self.run.join(name), text).unwrap();
        write(&format!("{NAME}.pem"), certificate.chain_pem());
        write(&format!("{NAME}.key"), certificate.key_pem());
        write(&format!("{NAME}.combined.pem"), certificate.combined_pem());
        let chain = std::fs::read_to_string(site.path("/etc/pve/local/pve-ssl.pem")).unwrap();
        let ca = chain.rfind("-----BEGIN").unwrap();
        write("pve-root-ca.pem", chain[ca..].to_owned());
    }

    fn nginx(&self, recipe: &str) -> String {
        let (run, port) = (self.run.display(), self.port);
        let whole = block("nginx");
        let server = if recipe.contains("server {") {
            recipe.to_owned()
        } else {
            let start = whole.find("    location / {").unwrap();
            format!("{}{recipe}}}\n", &whole[..start])
        };
        format!(
            "daemon off; master_process off; pid {run}/pid; error_log {run}/error;\nevents {{ }}\nhttp {{\n\
             client_body_temp_path {run}/body; proxy_temp_path {run}/proxy; fastcgi_temp_path {run}/f;\n\
             uwsgi_temp_path {run}/u; scgi_temp_path {run}/s; access_log off;\n{}}}\n",
            self.put_into(&server).replace("listen 443", &format!("listen 127.0.0.1:{port}"))
        )
    }

    fn caddy(&self, recipe: &str) -> String {
        let site = format!("https://{NAME}:{} {{\n    bind 127.0.0.1\n", self.port);
        let recipe = self.put_into(recipe).replace(&format!("\n{NAME} {{\n"), &format!("\n{site}"));
        let recipe = recipe.replace(&format!("{NAME} {{\n"), &site);
        format!("{{\n admin off\n auto_https disable_redirects\n skip_install_trust\n}}\n{recipe}")
    }

    fn haproxy(&self, recipe: &str) -> String {
        let bind = format!("bind 127.0.0.1:{}", self.port);
        format!("global\n    nbthread 1\n{}", self.put_into(recipe).replace("bind :443", &bind))
    }

    fn apache(&self, recipe: &str) -> String {
        let (run, port) = (self.run.display(), self.port);
        let modules = "/usr/lib/apache2/modules";
        let mut names = vec!["mpm_event", "authz_core", "socache_shmcb", "ssl", "proxy", "proxy_http"];
        if recipe.contains("wss://") {
            names.extend(["rewrite", "proxy_wstunnel"]);
        }
        let load = |name: &&str| format!("LoadModule {name}_module {modules}/mod_{name}.so\n");
        let modules = names.iter().map(load).collect::<Vec<_>>().concat();
        let host = self.put_into(recipe).replace("*:443", &format!("127.0.0.1:{port}"));
        format!(
            "ServerRoot {run}\nDefaultRuntimeDir {run}\nPidFile {run}/pid\nMutex pthread\nUser www-data\n\
             Group www-data\nErrorLog {run}/error\n{modules}Listen 127.0.0.1:{port}\n{host}"
        )
    }
}

/// A front with that recipe, before this nodegate.
fn front(site: &Site, gate: &Nodegate, name: &str, for_origins: bool) -> Front {
    let recipe = recipe(name, for_origins);
    let program = name.split('-').next().unwrap();
    let (command, arguments): (_, &[&str]) = match program {
        "nginx" => ("nginx", &["-e", "/dev/null", "-c"]),
        "caddy" => ("caddy", &["run", "--adapter", "caddyfile", "--config"]),
        "haproxy" => ("haproxy", &["-db", "-f"]),
        "apache" => ("apache2", &["-X", "-f"]),
        other => panic!("unknown front '{other}'"),
    };
    Front::start(command, arguments, |run, port| {
        let names = Names { run, port, gate: gate.port() };
        names.write_certificates(site);
        match program {
            "nginx" => names.nginx(&recipe),
            "caddy" => names.caddy(&recipe),
            "haproxy" => names.haproxy(&recipe),
            _ => names.apache(&recipe),
        }
    })
}

/// The settings that the page gives, with the test's address of the front.
fn settings(site: &Site, blocks: &[&str]) {
    let text = blocks.iter().map(|name| block(name).to_owned() + "\n").collect::<String>();
    site.write("/etc/nodegate/pve.toml", text.replace("10.0.0.5", "127.0.0.1"));
}

/// A browser whose page is that of the front.
struct Browser<'a> {
    site: &'a Site,
    front: &'a Front,
}

impl Browser<'_> {
    fn host(&self) -> String {
        format!("{NAME}:{}", self.front.address.port())
    }

    fn own_origin(&self) -> String {
        format!("https://{}", self.host())
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        origin: &str,
        headers: &str,
        body: &[u8],
    ) -> (Session, Reply) {
        let headers = format!("Host: {}\r\nOrigin: {origin}\r\n{headers}", self.host());
        let mut session = Session::tls_to(NAME, self.front.address);
        let reply = session.request(method, path, &headers, body);
        (session, reply)
    }

    fn logs_in(&self) {
        let form = "Content-Type: application/x-www-form-urlencoded\r\nSec-Fetch-Site: same-origin\r\n";
        let (path, body) = ("/api2/json/access/ticket", b"username=root%40pam&password=demo");
        let (_, reply) = self.request("POST", path, &self.own_origin(), form, body);
        assert_eq!(reply.status, 200, "{}\n{}", reply.text(), self.front.log());
    }

    fn uploads(&self) {
        let content = noise(300_000);
        let body = form(&[field("content", "iso"), file("a.iso", &content)]);
        let headers = self.site.cookie("root@pam") + "Sec-Fetch-Site: same-origin\r\n" + &kind();
        let (_, reply) = self.request("POST", PATH, &self.own_origin(), &headers, &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(self.site.daemon.last().upload.as_ref().unwrap() == &content);
    }

    /// The answer to a page of that origin; where a console opens, it is used.
    fn opens_console(&self, origin: &str) -> Reply {
        let console = Console::listen();
        let headers = self.site.cookie("root@pam") + UPGRADE;
        let path = console.path(self.site, "root@pam");
        let (session, reply) = self.request("GET", &path, origin, &headers, b"");
        if reply.status == 101 {
            let (mut socket, mut machine) = (WebSocket::of(session), console.accept());
            socket.send(FINAL | BINARY, b"typed");
            let mut typed = [0; 5];
            machine.read_exact(&mut typed).unwrap();
            machine.write_all(&typed).unwrap();
            assert_eq!(socket.data(5), b"typed");
        }
        reply
    }

    fn does_everything(&self) {
        self.logs_in();
        self.uploads();
        let reply = self.opens_console(&self.own_origin());
        assert_eq!(reply.status, 101, "{}", reply.text());
    }
}

/// The value of `console.origins` for a recipe.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Strict {
    /// it works as it is
    Works,
    /// it needs the lines that say so
    NeedsLines,
    /// it hides the origin, so that every page counts as our own
    Blind,
}

fn holds(name: &str, strict: Strict) {
    let evil = "https://evil.example.com";
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let plain = front(&site, &gate, name, false);
    Browser { site: &site, front: &plain }.does_everything();
    drop((plain, gate));

    settings(&site, &["settings", "strict"]);
    let gate = Nodegate::start(&site, &[]);
    let whole = front(&site, &gate, name, true);
    let browser = Browser { site: &site, front: &whole };
    browser.does_everything();
    assert_eq!(site.daemon.last().header("PVEClientIP"), Some("127.0.0.1"));
    assert_eq!(browser.opens_console("https://panel.example.com").status, 101);
    let expected = if strict == Strict::Blind { 101 } else { 403 };
    assert_eq!(browser.opens_console(evil).status, expected);
    drop(whole);
    if strict == Strict::NeedsLines {
        let plain = front(&site, &gate, name, false);
        let browser = Browser { site: &site, front: &plain };
        let reply = browser.opens_console(&browser.own_origin());
        assert_eq!(reply.status, 403);
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&browser.own_origin()) && message.contains("console.origins"), "{message}");
        // The other way out: the list names the page.
        let page = browser.own_origin();
        let listed = Nodegate::start(&site, &[&format!("console.origins={page}")]);
        let plain = front(&site, &listed, name, false);
        let reply = Browser { site: &site, front: &plain }.opens_console(&page);
        assert_eq!(reply.status, 101, "{}", reply.text());
    }
}

#[test]
fn the_nginx_recipe_works() {
    holds("nginx", Strict::Works);
}

#[test]
fn nginx_without_host_works() {
    holds("nginx-without-host", Strict::NeedsLines);
}

#[test]
fn nginx_with_a_host_without_port_works() {
    holds("nginx-host-without-port", Strict::NeedsLines);
}

#[test]
fn nginx_that_rewrites_the_origin_works() {
    holds("nginx-origin-rewritten", Strict::Blind);
}

#[test]
fn the_caddy_recipe_works() {
    holds("caddy", Strict::Works);
}

#[test]
fn caddy_with_the_upstreams_host_works() {
    holds("caddy-upstream-host", Strict::Works);
}

#[test]
fn the_haproxy_recipe_works() {
    holds("haproxy", Strict::Works);
}

#[test]
fn the_apache_recipe_works() {
    holds("apache", Strict::Works);
}

#[test]
fn apache_with_its_own_host_works() {
    holds("apache-own-host", Strict::Works);
}

#[test]
fn apache_with_wstunnel_works() {
    holds("apache-wstunnel", Strict::Works);
}

#[test]
fn every_recipe_is_tried() {
    let recipes = DOCUMENT.lines().filter_map(|line| line.strip_prefix("```")?.split_once(' '));
    let tried = [
        "settings",
        "nginx",
        "nginx-without-host",
        "nginx-host-without-port",
        "nginx-origin-rewritten",
        "caddy",
        "caddy-upstream-host",
        "haproxy",
        "apache",
        "apache-own-host",
        "apache-wstunnel",
        "strict",
    ];
    assert_eq!(recipes.map(|(_, name)| name).collect::<Vec<_>>(), tried);
}

#[test]
fn chromium_works_behind_each_front() {
    let console = Console::listen();
    let mut site = Site::pve();
    let keys = Arc::clone(&site.keys);
    let root = site.root().to_owned();
    site.daemon =
        Daemon::start(Config { keys, root, console_port: console.port, ..Config::new(Product::Pve) });
    site.write("/usr/share/pve-manager/js/front.html", include_str!("../../e2e/front.html"));
    let default = Nodegate::start(&site, &[]);
    settings(&site, &["settings", "strict"]);
    let strict = Nodegate::start(&site, &[]);
    let plain = ["nginx-without-host", "nginx-host-without-port", "nginx-origin-rewritten"];
    let whole = ["nginx-without-host", "caddy-upstream-host", "haproxy", "apache-own-host"];
    let fronts: Vec<_> = plain
        .map(|name| front(&site, &default, name, false))
        .into_iter()
        .chain(whole.map(|name| front(&site, &strict, name, true)))
        .collect();
    let count = fronts.len();
    std::thread::spawn(move || {
        for _ in 0..count {
            let machine = console.accept();
            std::thread::spawn(move || echo(machine));
        }
    });
    let origins = fronts.iter().map(|front| format!("https://{NAME}:{}", front.address.port()));
    let output = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/front.mjs"))
        .args(origins)
        .output()
        .expect("nodejs is missing; `make test` installs what the tests need");
    let reported: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let good = serde_json::json!({ "login": 200, "upload": 200, "console": "from the page" });
    assert_eq!(reported, serde_json::Value::Array(vec![good; count]), "{output:?}");
}
