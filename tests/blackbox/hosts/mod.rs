//! Host names that are answered: `listen.hosts`, `hosts` of a listener, and those of `metrics.listen`.

mod browser;
mod metrics;

use std::process::Command;

use crate::cluster::machines::Cluster;
use crate::console::client::UPGRADE;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Reply, Session, Site};

const VERSION: &str = "/api2/json/version";
const LOGIN: &str = "/api2/json/access/ticket";
const LISTED: &str = "listen.hosts=pve.example.com,192.0.2.7,*.lab.example.com";

fn ask(gate: &Nodegate, host: &str, path: &str, headers: &str) -> Reply {
    gate.get(path, &format!("Host: {host}\r\n{headers}"))
}

/// Status and body that curl gets, over that version of HTTP.
fn curl(version: &str, url: &str, host: &str, more: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["-sk", version, "--max-time", "60", "-H", &format!("Host: {host}")]);
    command.args(["-w", " %{http_code} %{http_version}"]).args(more).arg(url);
    Outcome::of(&mut command).stdout
}

#[test]
fn a_host_that_is_not_listed_gets_421() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[LISTED, "http2=true"]);
    let cookie = site.cookie("root@pam");
    for host in ["pve.example.com", "PVE.example.com.:8006", "192.0.2.7:8006", "a.lab.example.com"] {
        assert_eq!(ask(&gate, host, VERSION, &cookie).status, 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:8006",
        "pve.example.com.evil.example",
        "127.0.0.1",
        "[::1]",
        "localhost",
    ] {
        for path in [VERSION, "/", "/pve2/js/pvemanagerlib.js", "/nothing", "/api2/json/nowhere"] {
            let reply = ask(&gate, host, path, &cookie);
            assert_eq!((reply.status, reply.header("set-cookie")), (421, None), "{host} {path}");
            let said = "the host name of this request is not served here (setting listen.hosts)";
            assert!(reply.text().contains(said), "{}", reply.text());
        }
    }
    assert_eq!(ask(&gate, "evil.example", "/api2/extjs/version", &cookie).status, 421);
    let url = format!("https://{}{VERSION}", gate.address());
    for (version, number) in [("--http1.1", "1.1"), ("--http2", "2")] {
        assert!(curl(version, &url, "evil.example", &["-b", "x=y"]).ends_with(&format!(" 421 {number}")));
        let cookie = cookie.trim();
        let reply = curl(version, &url, "pve.example.com:8006", &["-H", cookie]);
        assert!(reply.ends_with(&format!(" 200 {number}")), "{reply}");
    }
    let log = gate.stderr();
    let reported =
        log.lines().filter(|line| line.contains("a request names a host that listen.hosts does not list"));
    assert_eq!(reported.count(), 1, "{log}");
}

#[test]
fn every_form_of_naming_a_host_counts() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[LISTED]);
    let answer = |request: &str| {
        let mut session = gate.connect();
        session.send(request);
        session.try_reply(false).map(|reply| reply.status)
    };
    let get = |line: &str, host: &str| answer(&format!("{line}\r\n{host}Connection: close\r\n\r\n"));
    let listed = "Host: pve.example.com\r\n";
    assert_eq!(get("GET /x HTTP/1.1", listed), Some(404));
    assert_eq!(get("GET https://pve.example.com/x HTTP/1.1", listed), Some(404));
    assert_eq!(get("GET https://evil.example/x HTTP/1.1", "Host: evil.example\r\n"), Some(421));
    assert_eq!(get("GET https://evil.example/x HTTP/1.1", listed), Some(400), "they disagree");
    assert_eq!(get("GET https://pve.example.com/x HTTP/1.1", "Host: evil.example\r\n"), Some(400));
    assert_eq!(get("OPTIONS * HTTP/1.1", "Host: evil.example\r\n"), Some(421));
    assert_eq!(get("GET /x HTTP/1.0", ""), Some(421), "no host at all");
    assert_eq!(get("GET /x HTTP/1.0", listed), Some(404));
}

#[test]
fn no_credential_is_read_before_the_host() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[LISTED, "limits.login_failures=2"]);
    for _ in 0..5 {
        let body = b"username=root%40pam&password=wrong";
        let reply = gate.request("POST", LOGIN, "Host: evil.example\r\n", body);
        assert_eq!(reply.status, 421);
        assert_eq!(
            ask(&gate, "evil.example", VERSION, "Cookie: PVEAuthCookie=PVE:root@pam:1\r\n").status,
            421
        );
        let upgrade = format!("{UPGRADE}{}", site.cookie("root@pam"));
        let console = "/api2/json/nodes/node1/qemu/100/vncwebsocket?port=5900&vncticket=x";
        assert_eq!(ask(&gate, "evil.example", console, &upgrade).status, 421);
    }
    assert!(site.daemon.requests().is_empty());
    assert_eq!(ask(&gate, "pve.example.com", VERSION, &site.cookie("root@pam")).status, 200);
    let reply = gate.request("POST", LOGIN, "Host: pve.example.com\r\n", b"username=a%40pam&password=b");
    assert_ne!(reply.status, 429, "nothing was counted");
}

#[test]
fn clear_http_is_not_redirected_to_another_host() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[LISTED]);
    let mut session = Session::plain(gate.address());
    let reply = session.request("GET", "/x", "Host: evil.example\r\n", b"");
    assert_eq!((reply.status, reply.header("location")), (421, None));
    let mut session = Session::plain(gate.address());
    let reply = session.request("GET", "/x", "Host: pve.example.com:8006\r\n", b"");
    assert_eq!((reply.status, reply.header("location")), (301, Some("https://pve.example.com:8006/x")));
}

#[test]
fn probes_are_answered_under_every_name() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[LISTED]);
    for path in ["/-/health", "/-/ready"] {
        assert_eq!(ask(&gate, "10.0.0.1:8006", path, "").status, 200, "{path}");
    }
    assert_eq!(ask(&gate, "10.0.0.1:8006", "/-/other", "").status, 421);
}

#[test]
fn without_a_list_every_host_is_answered() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for host in ["evil.example", "127.0.0.1:8006", "[::1]", "x"] {
        assert_eq!(ask(&gate, host, VERSION, &site.cookie("root@pam")).status, 200, "{host}");
    }
}

#[test]
fn a_listener_has_hosts_of_its_own() {
    let site = Site::pmg();
    let tables = "[listen]\nhosts = \"pmg.example.com\"\n\
        [[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroute_scope = \"quarantine\"\n\
        hosts = [\"mail.example.com\", \"192.0.2.9\"]\n\
        [[listener]]\nname = \"same\"\naddress = \"127.0.0.1\"\nport = 0\n\
        [[listener]]\nname = \"all\"\naddress = \"127.0.0.1\"\nport = 0\nhosts = \"\"\n";
    site.write("/etc/nodegate/pmg.toml", tables);
    let gate = Nodegate::start(&site, &[]);
    let [main, public] = ["pmg.example.com", "mail.example.com"];
    let first = gate.local();
    let cases = [
        (first, [404, 421, 421]),
        (gate.listener("public"), [421, 404, 421]),
        (gate.listener("same"), [404, 421, 421]),
        (gate.listener("all"), [404, 404, 404]),
    ];
    for (address, statuses) in cases {
        for (host, status) in [main, public, "evil.example"].into_iter().zip(statuses) {
            let reply = Session::tls(address).request("GET", "/nothing", &format!("Host: {host}\r\n"), b"");
            assert_eq!(reply.status, status, "{address} {host}");
            if status == 421 {
                let setting =
                    if address == gate.listener("public") { "listener[1].hosts" } else { "listen.hosts" };
                assert!(reply.text().contains(setting), "{}", reply.text());
            }
        }
    }
}

#[test]
fn other_nodes_may_forward_unlisted_hosts() {
    let cluster = Cluster::pve(2);
    let first = cluster.start(1, &["listen.hosts=pve.example.com"]);
    let second = cluster.start(2, &["listen.hosts=elsewhere.example.com"]);
    let cookie = cluster.nodes[0].site.cookie("root@pam");
    assert_eq!(ask(&first, "pve.example.com", "/api2/json/nodes/node2/status", &cookie).status, 200);
    let passed_on = cookie.clone() + "PVEDisableProxy: true\r\n";
    assert_eq!(ask(&first, "evil.example", VERSION, &passed_on).status, 421, "this is no other node");
    assert_eq!(ask(&second, "evil.example", VERSION, &cookie).status, 421, "a node's own browser");
}

#[test]
fn forwarded_hosts_of_trusted_proxies_count() {
    let site = Site::pve();
    let proxies = ["real_ip.header=X-Forwarded-For", "real_ip.allow_from=127.0.0.1"];
    let gate = Nodegate::start(&site, &[&[LISTED], &proxies[..]].concat());
    let reported = |host: &str, forwarded: &str| {
        let headers = format!("X-Forwarded-For: 192.0.2.50\r\nX-Forwarded-Host: {forwarded}\r\n");
        ask(&gate, host, "/nothing", &headers).status
    };
    assert_eq!(reported("pve.example.com", "a.lab.example.com"), 404);
    assert_eq!(reported("pve.example.com", "evil.example"), 421, "the front has written another Host");
    assert_eq!(reported("evil.example", "pve.example.com"), 421, "the page has written the header");
}

#[test]
fn a_reload_changes_the_list_for_open_connections() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    assert_eq!(session.request("GET", "/nothing", "Host: evil.example\r\n", b"").status, 404);
    site.write("/etc/nodegate/pve.toml", "[listen]\nhosts = \"pve.example.com\"\n");
    gate.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("reloaded", || gate.stderr().contains("reloaded"));
    assert_eq!(session.request("GET", "/nothing", "Host: evil.example\r\n", b"").status, 421);
    assert_eq!(session.request("GET", "/nothing", "Host: pve.example.com\r\n", b"").status, 404);
}

#[test]
fn an_invalid_host_names_its_line() {
    let site = Site::pve();
    site.write(
        "/etc/nodegate/pve.toml",
        "[listen]\nhosts = [\"a.example\", \"https://b.example\"]\n[metrics]\nhosts = \"c.example:9221\"\n\
         [[listener]]\nname = \"x\"\nport = 1\nhosts = \"*\"\n",
    );
    let check = Outcome::check(&site, &[]);
    assert_eq!(check.code, 1);
    let file = site.path("/etc/nodegate/pve.toml").display().to_string();
    for place in [
        "2: listen.hosts: 'https://b.example' is not a host",
        "4: metrics.hosts: 'c.example:9221' is not a host",
        "8: listener[1].hosts: '*' is not a host",
    ] {
        check.complains(&format!(
            "{file}:{place}: write a name, *.NAME or an address, without scheme, port and path"
        ));
    }
    let spice = Outcome::ask(&site, &["--set", "listen.hosts=a.example", "check", "spice"]);
    spice.complains(
        "--set: listen.hosts: has no effect in a profile for tunnels: clients send a ticket there instead of a host",
    );
}
