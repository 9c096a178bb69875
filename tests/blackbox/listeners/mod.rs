//! Several listeners, each with separate rules.

mod classes;
mod mistakes;
mod moves;
mod nodes;
mod shares;

use std::net::SocketAddr;
use std::process::Command;

use crate::spice::{Viewer, echoing_machine, target};
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Outcome, Session, Site};
use crate::tls::clients::People;

const PVE: &str = "/etc/nodegate/pve.toml";
const VERSION: &str = "/api2/json/version";

/// Serves with what the settings file says.
pub fn start(site: &Site, settings: &str, sets: &[&str]) -> Nodegate {
    site.write(&format!("/etc/nodegate/{}.toml", site.profile()), settings);
    Nodegate::start(site, sets)
}

/// The status that curl is answered with; 000 without an answer.
fn curl(url: &str, options: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["--insecure", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    command.args(["--max-time", "60", "--noproxy", "*"]).args(options).arg(url);
    Outcome::of(&mut command).stdout
}

/// The same from another address of this machine.
fn curl_from(from: &str, url: &str) -> String {
    curl(url, &["--interface", from])
}

#[test]
fn each_listener_has_its_access_list() {
    let site = Site::pve();
    let settings = "[acl]\ndeny_from = \"127.0.0.3\"\n\
        [[listener]]\nname = \"inside\"\naddress = \"127.0.0.1\"\nport = 0\nallow_from = [\"127.0.0.2\"]\npolicy = \"deny\"\n\
        [[listener]]\nname = \"same\"\naddress = \"127.0.0.1\"\nport = 0\n";
    let gate = start(&site, settings, &[]);
    let places = [gate.address(), gate.listener("inside"), gate.listener("same")];
    for (from, admitted) in
        [("127.0.0.1", [true, false, true]), ("127.0.0.2", [true, true, true]), ("127.0.0.3", [false; 3])]
    {
        for (place, admitted) in places.iter().zip(admitted) {
            let answered = curl_from(from, &format!("https://{place}/x")) == "404";
            assert_eq!(answered, admitted, "{from} at {place}");
        }
    }
    eventually("who is turned away is in the log", || {
        site.access_log()
            .lines()
            .any(|line| line.starts_with("127.0.0.1 - - ") && line.ends_with(" \"-\" 403 -"))
    });
}

#[test]
fn a_plaintext_listener_serves_only_http() {
    let site = Site::pve();
    let settings = "[[listener]]\nname = \"clear\"\naddress = \"127.0.0.1\"\nport = 0\ntls = false\n";
    let gate = start(&site, settings, &["headers.hsts=1000"]);
    let clear = gate.listener("clear");
    let cookie = site.cookie("root@pam");
    let reply = Session::plain(clear).request("GET", VERSION, &cookie, b"");
    assert_eq!((reply.status, reply.header("strict-transport-security")), (200, None));
    let reply = Session::plain(gate.address()).request("GET", VERSION, &cookie, b"");
    assert_eq!(reply.status, 301, "where TLS is spoken clear HTTP is redirected");
    assert_eq!(curl(&format!("http://{clear}{VERSION}"), &["--header", cookie.trim()]), "200");
    assert_eq!(curl(&format!("http://{clear}{VERSION}"), &[]), "401");
    assert_eq!(curl(&format!("https://{clear}{VERSION}"), &[]), "000");
}

#[test]
fn one_listener_requests_client_certificates() {
    let people = People::new();
    let site = &people.site;
    let [file, key] = people.person("alice", "ca");
    let settings = "[[listener]]\nname = \"badge\"\naddress = \"127.0.0.1\"\nport = 0\n\
        client_certificates = \"required\"\nclient_ca = \"/etc/nodegate/clients.pem\"\n";
    let gate = start(site, settings, &["log.format=json"]);
    let badge = format!("https://{}/badge", gate.listener("badge"));
    let shown = ["--cert", &file, "--key", &key];
    assert_eq!(curl(&badge, &shown), "404");
    assert_eq!(curl(&badge, &[]), "000");
    assert_eq!(curl(&format!("https://{}/open", gate.address()), &[]), "404");
    eventually("the log names who has shown one", || {
        let is_hers =
            |line: &str| line.contains("/badge") && line.contains("CN=alice") && line.contains("\"badge\"");
        site.access_log().lines().any(is_hers)
    });
    let open = site.access_log().lines().any(|line| line.contains("/open") && line.contains("CN="));
    assert!(!open, "{}", site.access_log());
}

#[test]
fn ipv4_and_ipv6_have_separate_rules() {
    let site = Site::pve();
    let port = free_port();
    let settings = format!(
        "[[listener]]\nname = \"v4\"\naddress = \"0.0.0.0\"\nport = {port}\ndeny_from = \"127.0.0.0/8\"\n"
    );
    let gate = start(&site, &settings, &["listen.address=::", &format!("listen.port={port}")]);
    assert_eq!(gate.listener("v4"), SocketAddr::from(([0, 0, 0, 0], port)));
    assert_eq!(curl(&format!("https://127.0.0.1:{port}/x"), &[]), "000");
    assert_eq!(curl(&format!("https://[::1]:{port}/x"), &[]), "404");
}

#[test]
fn an_address_beside_a_wildcard_has_rules() {
    let site = Site::pve();
    let port = free_port();
    let settings = format!(
        "[[listener]]\nname = \"inside\"\naddress = \"127.0.0.7\"\nport = {port}\nallow_from = \"127.0.0.2\"\npolicy = \"deny\"\n"
    );
    let gate = start(&site, &settings, &["listen.address=::", &format!("listen.port={port}")]);
    assert_eq!(gate.listener("inside"), SocketAddr::from(([127, 0, 0, 7], port)));
    let [inside, outside] = ["127.0.0.7", "127.0.0.1"].map(|at| format!("https://{at}:{port}/x"));
    for _ in 0..5 {
        assert_eq!(curl_from("127.0.0.1", &inside), "000");
        assert_eq!(curl_from("127.0.0.2", &inside), "404");
        assert_eq!(curl_from("127.0.0.1", &outside), "404");
    }
}

#[test]
fn tunnels_have_several_listeners_as_well() {
    let site = Site::pve();
    site.write(
        "/etc/nodegate/spice.toml",
        "[[listener]]\nname = \"closed\"\naddress = \"127.0.0.1\"\nport = 0\ndeny_from = \"127.0.0.1\"\n\
         [[listener]]\nname = \"other\"\naddress = \"127.0.0.1\"\nport = 0\n",
    );
    let machine = echoing_machine();
    let gate = crate::spice::gate(&site, &["acl.deny_from=127.0.0.9"]);
    let head = target(&site, machine.address().port());
    let mut viewer = Viewer::tunnel_at(gate.listener("other"), &head);
    viewer.send(b"hello");
    viewer.expect(b"hello");
    let mut closed = Session::plain(gate.listener("closed"));
    let _ = closed.try_send(format!("CONNECT {head} HTTP/1.0\r\nHost: {head}\r\n\r\n"));
    assert_eq!(closed.rest(), b"");
}
