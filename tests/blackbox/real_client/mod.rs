//! The client behind a proxy: for the log, the daemon, the limits and, by setting, the access list.

mod fronts;
mod proxy_protocol;
mod recipes;

use crate::cluster::machines::Cluster;
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Outcome, Site};

const LIST: &str = "real_ip.allow_from=127.0.0.1,10.0.0.0/8";
const HEADER: &str = "real_ip.header=X-Forwarded-For";
const ECHO: &str = "/api2/json/standin/echo";

/// The address that the daemon gets, and the one that the log names, for a request with these headers.
fn reported(site: &Site, gate: &Nodegate, headers: &str) -> (String, String) {
    let lines = site.access_log().lines().count();
    let reply = gate.get(ECHO, &(site.cookie("root@pam") + headers));
    assert_eq!(reply.status, 200, "{}", reply.text());
    eventually("the line is there", || site.access_log().lines().count() > lines);
    let log = site.access_log();
    let logged = log.lines().last().unwrap().split(' ').next().unwrap().to_owned();
    (site.daemon.last().header("PVEClientIP").unwrap().to_owned(), logged)
}

fn both(address: &str) -> (String, String) {
    (address.to_owned(), address.to_owned())
}

/// The daemon and the log get that address.
#[test]
fn a_listed_proxy_names_the_client() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[HEADER, LIST]);
    let line = "X-Forwarded-For";
    for (headers, expected) in [
        (String::new(), "127.0.0.1"),
        (format!("{line}: 192.0.2.7\r\n"), "192.0.2.7"),
        (format!("{line}: 6.6.6.6, 192.0.2.7\r\n"), "192.0.2.7"),
        (format!("{line}: 6.6.6.6, 192.0.2.7, 10.1.2.3\r\n"), "192.0.2.7"),
        (format!("{line}: 6.6.6.6\r\n{line}: 2001:db8::7, 10.1.2.3\r\n"), "2001:db8::7"),
        (format!("{line}: 192.0.2.7, rubbish\r\n"), "127.0.0.1"),
        (format!("{line}: \u{fc}\"=;, 192.0.2.7\r\n"), "192.0.2.7"),
        ("Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nPVEClientIP: 6.6.6.6\r\n".to_owned(), "127.0.0.1"),
    ] {
        assert_eq!(reported(&site, &gate, &headers), both(expected), "{headers}");
    }
}

#[test]
fn the_standard_header_is_understood() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["real_ip.header=Forwarded", LIST]);
    for (value, expected) in [
        ("for=192.0.2.7;proto=https", "192.0.2.7"),
        ("for=6.6.6.6, for=\"[2001:db8::7]:4711\", for=10.0.0.1;by=10.0.0.2", "2001:db8::7"),
        ("for=6.6.6.6;x=\", for=192.0.2.7", "192.0.2.7"),
        ("for=6.6.6.6, for=_hidden", "127.0.0.1"),
        ("for=\"\u{fc}, for=192.0.2.7", "192.0.2.7"),
    ] {
        assert_eq!(reported(&site, &gate, &format!("Forwarded: {value}\r\n")), both(expected), "{value}");
    }
}

#[test]
fn unlisted_peers_cannot_forge_the_client() {
    let site = Site::pve();
    let forged = "X-Forwarded-For: 192.0.2.7\r\n";
    let elsewhere = "real_ip.allow_from=10.0.0.0/8";
    let sets = [HEADER, elsewhere, "real_ip.apply_acl=1", "acl.deny_from=192.0.2.0/24"];
    let gate = Nodegate::start(&site, &sets);
    assert_eq!(reported(&site, &gate, forged), both("127.0.0.1"));
    let unlisted = Nodegate::start(&site, &[HEADER]);
    let expected = ("127.0.0.1".to_owned(), "192.0.2.7".to_owned());
    assert_eq!(reported(&site, &unlisted, forged), expected, "without a list it is for the log alone");
}

/// A setting asks for it.
#[test]
fn access_lists_apply_to_the_real_client() {
    let site = Site::pve();
    let deny = "acl.deny_from=192.0.2.0/24";
    let cookie = site.cookie("root@pam");
    let status = |gate: &Nodegate, client: &str| {
        gate.get(ECHO, &format!("{cookie}X-Forwarded-For: {client}\r\n")).status
    };
    let open = Nodegate::start(&site, &[HEADER, LIST, deny]);
    assert_eq!(status(&open, "192.0.2.7"), 200);
    let gate = Nodegate::start(&site, &[HEADER, LIST, deny, "real_ip.apply_acl=1"]);
    let mut session = gate.connect();
    for (client, expected) in [("198.51.100.1", 200), ("192.0.2.7", 403), ("198.51.100.1", 200)] {
        let headers = format!("{cookie}X-Forwarded-For: {client}\r\n");
        let reply = session.request("GET", ECHO, &headers, b"");
        assert_eq!(reply.status, expected, "{client}");
        if expected == 403 {
            assert_eq!(reply.json()["message"], "this address is not admitted");
        }
    }
    let page = gate.get("/x", "X-Forwarded-For: 192.0.2.7\r\n");
    assert_eq!(page.status, 403, "files as well");
    eventually("it is in the log", || {
        site.access_log().lines().any(|line| line.starts_with("192.0.2.7 - ") && line.contains("\" 403 "))
    });
}

#[test]
fn proxy_settings_need_a_list_of_proxies() {
    let site = Site::pve();
    let file = "/etc/nodegate/pve.toml";
    site.write(file, "[[listener]]\nname = \"a\"\nport = 0\nproxy_protocol = true\n");
    let outcome = Outcome::check(&site, &["real_ip.apply_acl=1", "listen.proxy_protocol=1"]);
    assert_eq!(outcome.code, 1);
    let why = "no proxy is trusted: list the proxies in real_ip.allow_from";
    outcome.complains(&format!("--set: real_ip.apply_acl: {why}"));
    outcome.complains(&format!("--set: listen.proxy_protocol: {why}"));
    outcome.complains(&format!("{}:4: listener[1].proxy_protocol: {why}", site.path(file).display()));
}

#[test]
fn another_node_gets_the_client_before_tls() {
    let cluster = Cluster::pve(2);
    let port = free_port();
    let other = &cluster.nodes[1].site;
    other.write(
        "/etc/nodegate/pve.toml",
        format!(
            "[real_ip]\nallow_from = \"127.0.0.0/24\"\n\
             [[listener]]\nname = \"nodes\"\naddress = \"127.0.0.2\"\nport = {port}\nproxy_protocol = true\n"
        ),
    );
    let _second = cluster.start(2, &[]);
    let to = format!("cluster.port={port}");
    let sets = ["cluster.proxy_protocol=1", &to, HEADER, LIST];
    let first = cluster.start(1, &sets);
    let headers = cluster.nodes[0].site.cookie("root@pam") + "X-Forwarded-For: 192.0.2.7\r\n";
    for client in ["192.0.2.7", "2001:db8::7", "192.0.2.7"] {
        let headers = headers.replace("192.0.2.7", client);
        let reply = first.get("/api2/json/nodes/node2/standin/echo", &headers);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(other.daemon.last().header("PVEClientIP"), Some(client));
    }
}
