//! The status page of `metrics.listen`: its values, what protects it, and the stream that keeps it current.

mod browser;
mod events;
mod protection;

use std::net::SocketAddr;

use serde_json::Value;

use crate::cluster::machines::Cluster;
use crate::console::client::opened;
use crate::status::report;
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Reply, Session, Site};

const VERSION: &str = "/api2/json/version";

/// The settings for a page, and its address.
struct Page {
    address: SocketAddr,
    listen: String,
}

impl Page {
    fn new() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self { address, listen: format!("metrics.listen={address}") }
    }

    fn start(&self, site: &Site, sets: &[&str]) -> Nodegate {
        let gate = Nodegate::start(site, &[&[self.listen.as_str()], sets].concat());
        self.wait();
        gate
    }

    fn wait(&self) {
        eventually("the page is served", || std::net::TcpStream::connect(self.address).is_ok());
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> Reply {
        Session::plain(self.address).request(method, path, headers, b"")
    }

    fn text(&self) -> String {
        let reply = self.ask("GET", "/", "");
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text()
    }

    fn json(&self) -> Value {
        let reply = self.ask("GET", "/status.json", "");
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    fn stream(&self, path: &str) -> Session {
        let mut session = Session::plain(self.address);
        session.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        session
    }
}

/// Text of the page without its markup.
fn words(page: &str) -> String {
    let (_, page) = page.split_once("<div id=\"page\">").unwrap();
    let (page, _) = page.split_once("<footer>").unwrap();
    let text = regex::Regex::new("<[^>]*>").unwrap().replace_all(page, " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_plain_request_gets_the_current_values() {
    let site = Site::pve();
    let page = Page::new();
    let gate = page.start(&site, &["limits.body=10"]);
    assert!(words(&page.text()).contains("Consoles and tunnels None is open."));
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    for _ in 0..3 {
        assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
    }
    assert_eq!(session.request("POST", "/api2/json/access/ticket", "", &[b'x'; 100]).status, 413);
    let (_socket, _server) = opened(&site, &gate);
    eventually("all is counted", || page.json()["requests"]["total"].as_u64() >= Some(4));
    let text = words(&page.text());
    let daemon = site.daemon.address();
    let certificate = site.path("/etc/pve/local/pve-ssl.pem");
    for value in [
        "pve on node1 nodegate 0.1.0 serving for".to_owned(),
        format!("process {} listening on {}", gate.pid(), gate.address()),
        "last reload: none routes: 679 methods, built in".to_owned(),
        "2xx 3, 4xx 1".to_owned(),
        format!("daemon at {daemon} reachable"),
        "Workers busy 0 of 3".to_owned(),
        "Answered 4 Failed 0".to_owned(),
        "GET /version 3".to_owned(),
        "/nodes/node1/qemu/100/vncwebsocket console 127.0.0.1 root@pam".to_owned(),
        "1 console and 0 tunnels".to_owned(),
        certificate.display().to_string(),
        "size of a body body 1 1".to_owned(),
        "Failed logins None in the last 15 minutes.".to_owned(),
    ] {
        assert!(text.contains(&value), "{value}: {text}");
    }
}

/// The script shows what the server renders, so the values of both have one source.
#[test]
fn the_json_is_that_of_the_command() {
    let site = Site::pve();
    let page = Page::new();
    let gate = page.start(&site, &[]);
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    eventually("it is counted, and its client has left", || {
        let status = page.json();
        status["requests"]["total"] == 1 && status["connections"]["open"] == 0
    });
    let (mut shown, mut printed) = (page.json(), report(&site, &gate, "pve"));
    for both in [&mut shown, &mut printed] {
        let fields = both.as_object_mut().unwrap();
        for passing in ["time", "since", "latency", "history"] {
            assert!(fields.remove(passing).is_some(), "{passing}");
        }
        let daemon = both["upstreams"][0].as_object_mut().unwrap();
        assert!(daemon.remove("answer_ms").is_some_and(|time| time.as_f64() > Some(0.0)));
        daemon["queue"]["costliest"][0]["seconds"].take();
    }
    assert_eq!(shown, printed);
    assert_eq!(shown["node"], "node1");
}

#[test]
fn the_history_grows_every_ten_seconds() {
    let site = Site::pve();
    let page = Page::new();
    let gate = page.start(&site, &[]);
    assert_eq!(gate.get("/nope", "").status, 404);
    let columns = ["connections", "requests_per_second", "errors_per_second", "p50_ms", "p99_ms", "waiting"];
    eventually("the first interval has ended", || {
        page.json()["history"]["connections"].as_array().unwrap().len() == 1
    });
    let history = page.json()["history"].clone();
    assert_eq!(history["interval"], 10);
    for column in columns {
        assert_eq!(history[column].as_array().unwrap().len(), 1, "{column}: {history}");
    }
    assert!(history["requests_per_second"][0].as_f64() > Some(0.05), "{history}");
    assert!(history["p50_ms"][0].as_f64() > Some(0.0), "{history}");
    assert!(page.text().contains("class=\"curve one\" d=\"M300.0 "), "the charts have it too");
}

#[test]
fn problems_are_on_top_of_the_page() {
    let site = Site::pve();
    site.write("/etc/pve/.members", Cluster::members(1).replace("unseen", "node1"));
    site.write("/usr/share/pve-manager/index.html.tpl", "[% nodename %]");
    for page in ["novnc-pve", "pve-xtermjs", "pve-yew-mobile-gui"] {
        site.write(&format!("/usr/share/{page}/index.html.tpl"), "x");
    }
    let page = Page::new();
    let log = ["log.access=/trial.log"];
    let healthy = page.start(&site, &log);
    assert_eq!(page.json()["warnings"], serde_json::json!([]));
    assert!(words(&page.text()).contains("Nothing needs your attention"));
    drop(healthy);

    let gone = format!("backend.address=127.0.0.1:{}", free_port());
    let gate = page.start(&site, &[log[0], &gone]);
    site.write("/etc/nodegate/pve.toml", "[limits]\nbody = \"much\"\n");
    gate.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the reload is refused", || page.json()["last_reload"].is_object());
    let warnings = page.json()["warnings"].clone();
    let warnings: Vec<_> = warnings.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings[0].starts_with("daemon is not reachable at 127.0.0.1:"), "{warnings:#?}");
    assert!(warnings[1].starts_with("the last reload was refused: "), "{warnings:#?}");
    let text = words(&page.text());
    assert!(text.contains("2 warnings daemon is not reachable at"), "{text}");
}

#[test]
fn each_node_has_its_pin_and_its_time() {
    let cluster = Cluster::pve(4);
    let page = Page::new();
    let site = &cluster.nodes[0].site;
    // Node 3 shows another certificate than the cluster says, and none is known of node 4.
    site.write("/etc/pve/nodes/node3/pve-ssl.pem", cluster.nodes[1].certificate.certificate_pem());
    std::fs::remove_file(site.path("/etc/pve/nodes/node4/pve-ssl.pem")).unwrap();
    let _gates: Vec<_> = (2..=4).map(|number| cluster.start(number, &[])).collect();
    let _first = cluster.start(1, &[&page.listen]);
    page.wait();
    let report = page.json();
    let node = |name: &str| {
        let all = report["upstreams"].as_array().unwrap();
        all.iter().find(|it| it["name"] == name).cloned().unwrap_or_else(|| panic!("{report:#}"))
    };
    let [second, third, fourth, unseen] = ["node node2", "node node3", "node node4", "node unseen"].map(node);
    assert_eq!((&second["pin"], &second["unreachable"]), (&"verified".into(), &Value::Null));
    assert!(second["answer_ms"].as_f64() > Some(0.0));
    assert_eq!((&third["pin"], &third["answer_ms"]), (&"mismatch".into(), &Value::Null));
    assert!(third["unreachable"].as_str().unwrap().starts_with("certificate verify failed: expected"));
    assert_eq!((&fourth["pin"], &fourth["unreachable"]), (&"unknown".into(), &Value::Null));
    assert_eq!((&unseen["pin"], &unseen["answer_ms"]), (&Value::Null, &Value::Null));
    let text = words(&page.text());
    for value in [
        "reachable verified",
        "not reachable another certificate",
        "not usable none is known",
        "node node4: no certificate of it is known",
    ] {
        assert!(text.contains(value), "{value}: {text}");
    }
}

#[test]
fn failed_logins_are_masked_unless_set_otherwise() {
    let site = Site::pve();
    let proxy = ["real_ip.header=X-Real-IP", "real_ip.allow_from=127.0.0.1", "limits.login_failures=2"];
    for (set, shown, hidden) in [
        ("metrics.mask_addresses=true", ["203.0.113.0/24", "2001:db8:7::/48"], "203.0.113.77"),
        ("metrics.mask_addresses=false", ["203.0.113.77", "2001:db8:7:1::/64"], "203.0.113.0"),
    ] {
        let page = Page::new();
        let gate = page.start(&site, &[&proxy[..], &[set]].concat());
        crate::support::all_at_once(&["203.0.113.77", "203.0.113.77", "2001:db8:7:1::5"], |client| {
            let headers =
                format!("X-Real-IP: {client}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
            let form = b"username=root%40pam&password=guess";
            let reply = gate.request("POST", "/api2/json/access/ticket", &headers, form);
            assert_eq!(reply.status, 401);
        });
        let text = words(&page.text());
        for client in shown {
            assert!(text.contains(client), "{client}: {text}");
        }
        assert!(!text.contains(hidden) && !page.json().to_string().contains(hidden), "{text}");
        let reported = page.json()["failed_logins"].clone();
        let first = reported.as_array().unwrap().iter().find(|it| it["client"] == shown[0]).unwrap();
        assert_eq!(first["failures"], 2);
        assert!(first["rejected_for"].as_u64().is_some_and(|seconds| seconds <= 60), "{reported}");
        let printed = report(&site, &gate, "pve")["failed_logins"].to_string();
        assert!(printed.contains("203.0.113.77"), "root sees the address: {printed}");
    }
}
