//! The advertised proxy for viewers.

use crate::cluster::machines::Cluster;
use crate::support::nodegate::command;
use crate::support::{Nodegate, Outcome, Reply, Site};

const PUBLIC: &str = "https://spice.example.com:443";

fn post(gate: &Nodegate, site: &Site, path: &str, headers: &str, body: &str) -> Reply {
    let headers = format!(
        "{}{}Content-Type: application/x-www-form-urlencoded\r\n{headers}",
        site.cookie("root@pam"),
        site.csrf("root@pam")
    );
    gate.request("POST", path, &headers, body.as_bytes())
}

fn public(site: &Site) -> Nodegate {
    Nodegate::start(site, &[&format!("tunnel.advertised_proxy={PUBLIC}")])
}

#[test]
fn every_response_format_names_the_advertised_proxy() {
    let site = Site::pve();
    let gate = public(&site);
    for call in
        ["nodes/node1/qemu/100/spiceproxy", "nodes/node1/lxc/101/spiceproxy", "nodes/node1/spiceshell"]
    {
        for (headers, body) in [("", ""), ("Accept-Encoding: gzip\r\n", "proxy=node1.lan")] {
            for format in ["json", "extjs"] {
                let reported = post(&gate, &site, &format!("/api2/{format}/{call}"), headers, body).json();
                assert_eq!(reported["data"]["proxy"], PUBLIC, "{call}: {reported}");
                assert_eq!(reported["data"]["password"], "secret1");
                assert_eq!(reported["data"]["tls-port"], 61_000);
            }
            let file = post(&gate, &site, &format!("/api2/spiceconfig/{call}"), headers, body);
            let kind = file.header("content-type").unwrap();
            assert!(kind.starts_with("application/x-virt-viewer"), "{kind}");
            let lines: Vec<_> = file.text().lines().map(str::to_owned).collect();
            assert_eq!(lines[0], "[virt-viewer]");
            assert!(lines.contains(&format!("proxy={PUBLIC}")), "{lines:?}");
            assert!(lines.contains(&"password=secret1".to_owned()), "{lines:?}");
            assert_eq!(lines.iter().filter(|line| line.starts_with("proxy")).count(), 1);
        }
    }
}

#[test]
fn without_the_setting_the_daemons_proxy_stays() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let reported = post(&gate, &site, "/api2/json/nodes/node1/qemu/100/spiceproxy", "", "proxy=node1.lan");
    assert_eq!(reported.json()["data"]["proxy"], "http://node1.lan:3128");
}

#[test]
fn name_and_port_mean_a_plaintext_proxy() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["tunnel.advertised_proxy=spice.example.com:8128"]);
    let reported = post(&gate, &site, "/api2/json/nodes/node1/spiceshell", "", "");
    assert_eq!(reported.json()["data"]["proxy"], "http://spice.example.com:8128");
}

#[test]
fn responses_without_one_proxy_pass_unchanged() {
    let site = Site::pve();
    let gate = public(&site);
    let reported = post(&gate, &site, "/api2/json/nodes/node1/qemu/100/vncproxy", "", "");
    assert!(reported.json()["data"].get("proxy").is_none());
    let long = "x".repeat(70_000);
    let reported = post(&gate, &site, "/api2/json/nodes/node1/spiceshell", "", &format!("proxy={long}"));
    assert_eq!(reported.json()["data"]["proxy"], format!("http://{long}:3128"));
    for (head, body) in [
        ("Content-Type: text/plain", "no JSON, proxy=http://node1:3128"),
        ("Content-Type: application/json", r#"{"data":null,"message":"no VM 999"}"#),
        ("Content-Type: application/json", r#"{"data":{"proxy":"http://node1:3128"}"#),
        ("Content-Encoding: x-own", r#"{"data":{"proxy":"http://node1:3128"}}"#),
    ] {
        let raw = format!("HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let encoded = percent_encoding::percent_encode(raw.as_bytes(), percent_encoding::NON_ALPHANUMERIC);
        let path = "/api2/json/nodes/node1/qemu/999/spiceproxy";
        let reported = post(&gate, &site, path, "", &format!("text={encoded}"));
        assert_eq!((reported.status, reported.text().as_str()), (200, body));
    }
}

#[test]
fn forwarded_responses_name_this_nodes_proxy() {
    let cluster = Cluster::pve(2);
    let first = cluster.start(1, &[&format!("tunnel.advertised_proxy={PUBLIC}")]);
    let _second = cluster.start(2, &[]);
    let site = &cluster.nodes[0].site;
    let reported = post(&first, site, "/api2/json/nodes/node2/qemu/100/spiceproxy", "", "");
    assert_eq!(reported.status, 200, "{}", reported.text());
    assert_eq!(reported.json()["data"]["proxy"], PUBLIC);
}

#[test]
fn an_unusable_advertised_proxy_is_an_error() {
    let site = Site::pve();
    let check = |set: &str, profile: &str| {
        let root = site.root().to_str().unwrap();
        Outcome::of(&mut command(&["--root", root, "--set", set, "check", profile]))
    };
    for (set, profile, message) in [
        ("tunnel.advertised_proxy=spice.example.com", "pve", "write NAME:PORT"),
        ("tunnel.advertised_proxy=socks5://spice.example.com:1080", "pve", "not socks5://"),
        ("tunnel.advertised_proxy=spice.example.com:3128", "spice", "no [product.connect.answers]"),
    ] {
        let outcome = check(set, profile);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(
            outcome.stderr.contains("tunnel.advertised_proxy") && outcome.stderr.contains(message),
            "{outcome:?}"
        );
    }
    assert_eq!(check("tunnel.advertised_proxy=https://[2001:db8::1]:8006", "pve").code, 0);
}
