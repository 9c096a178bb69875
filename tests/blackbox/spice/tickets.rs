//! Requests that open a tunnel, and the responses to the others.

use std::time::{Duration, Instant};

use nodegate_standin::{Keys, now};

use super::{Viewer, echoing_machine, gate, refusal_to, refused, silent_port, target, viewer_head};
use crate::support::nodegate::eventually;
use crate::support::{Session, Site};

#[test]
fn tickets_of_both_forms_open_a_tunnel() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let port = machine.address().port();
    let old = site.keys.spice_target_old("node1", 100, port, now());
    for target in [target(&site, port), old, site.keys.spice_target("node1", 0, port, now() + 10)] {
        let mut viewer = Viewer::tunnel(&gate, &target);
        viewer.send("hello");
        viewer.expect(b"hello");
    }
}

#[test]
fn the_answer_has_the_version_of_the_request() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let target = target(&site, machine.address().port());
    let mut viewer = Viewer::connect(&gate);
    viewer.send(viewer_head(&target).replace("HTTP/1.0", "HTTP/1.1"));
    viewer.expect(b"HTTP/1.1 200 OK\r\n\r\n");
    viewer.send("x");
    viewer.expect(b"x");
}

#[test]
fn any_invalid_ticket_gets_401_at_once() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let port = machine.address().port();
    let other = if port == 61_999 { 61_998 } else { port + 1 };
    let keys = &site.keys;
    let good = target(&site, port);
    let (plain, tail) = good.split_once("::").unwrap();
    let flipped = if tail.starts_with('0') { "1" } else { "0" };
    let bad_signature = format!("{plain}::{flipped}{}", &tail[1..]);
    let started = Instant::now();
    for (what, target) in [
        ("signature", bad_signature),
        ("someone else's secret", Keys::fresh().spice_target("node1", 100, port, now())),
        ("expired", keys.spice_target("node1", 100, port, now() - 40)),
        ("expired, old form", keys.spice_target_old("node1", 100, port, now() - 41)),
        ("future", keys.spice_target("node1", 100, port, now() + 25)),
        (
            "other port",
            good.replace(
                &format!("::{tail}"),
                &format!("::{}", tail.replace(&format!(":{port}"), &format!(":{other}"))),
            ),
        ),
        ("other machine", good.replace(":100:", ":101:")),
        ("other node", good.replace(":node1:", ":node2:")),
        ("no trailing port", good[..good.len() - 6].to_owned()),
        ("truncated signature", format!("{}:{port}", &good[..good.len() - 16])),
        ("signature only", tail.to_owned()),
        ("upper case", good.to_uppercase()),
        ("foreign prefix", good.replace("pvespiceproxy", "pmgspiceproxy")),
        ("port hidden in the node", good.replacen(&format!(":{port}::"), &format!("%3A{port}::"), 1)),
        ("host name", format!("localhost:{port}")),
    ] {
        let reply = refusal_to(&gate, viewer_head(&target));
        assert_eq!(
            (reply.status, reply.reason.as_str(), reply.text().as_str()),
            (401, "invalid ticket", "invalid ticket"),
            "{what}"
        );
    }
    assert!(started.elapsed() < Duration::from_secs(15), "refusals wait");
    Viewer::tunnel(&gate, &good);
}

#[test]
fn a_ticket_replayed_too_late_gets_401() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let target = site.keys.spice_target("node1", 100, machine.address().port(), now() - 36);
    Viewer::tunnel(&gate, &target);
    eventually("the ticket runs out", || {
        let mut viewer = Viewer::connect(&gate);
        viewer.send(viewer_head(&target));
        viewer.expect(b"HTTP/1.0 ");
        viewer.end();
        viewer.rest().starts_with(b"401 invalid ticket\r\n")
    });
}

#[test]
fn ports_outside_the_range_get_403() {
    let site = Site::pve();
    let gate = gate(&site, &[]);
    for port in [1, 22, 8006, 60_999, 62_000, 65_535] {
        assert_eq!(refused(&gate, &target(&site, port)), (403, "Forbidden".to_owned()), "{port}");
        let old = site.keys.spice_target_old("node1", 100, port, now());
        assert_eq!(refused(&gate, &old).0, 403, "{port}, old form");
    }
}

#[test]
fn the_range_is_a_setting() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let port = machine.address().port();
    let next = if port < 61_500 { "61800-61900" } else { "61000-61100" };
    let gate = gate(&site, &[&format!("tunnel.ports={next}")]);
    assert_eq!(refused(&gate, &target(&site, port)).0, 403);
}

#[test]
fn requests_that_contradict_themselves_get_400() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let port = machine.address().port();
    let (good, other) = (target(&site, port), site.keys.spice_target("node1", 101, port, now()));
    for sent in [
        format!("CONNECT {good} HTTP/1.0\r\nHost: {other}\r\n\r\n"),
        format!("CONNECT {good} HTTP/1.0\r\nHost: localhost\r\n\r\n"),
        format!("CONNECT {good} HTTP/1.0\r\nHost: {good}\r\nHost: {good}\r\n\r\n"),
        format!("CONNECT {good} HTTP/1.1\r\n\r\n"),
        format!("CONNECT {good} HTTP/1.0\r\nHost:\r\n\r\n"),
        format!("CONNECT {good} HTTP/1.0\r\nHost: {good}\r\nno colon\r\n\r\n"),
        format!("CONNECT {good} {good} HTTP/1.0\r\nHost: {good}\r\n\r\n"),
        "\0\0\0\0".to_owned(),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
    ] {
        assert_eq!(refusal_to(&gate, &sent).status, 400, "{sent}");
    }
}

/// As ncat, socat and Python 3.11 do.
#[test]
fn http_1_0_needs_no_host() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let good = target(&site, machine.address().port());
    let mut session = Session::plain(gate.local());
    session.send(format!("CONNECT {good} HTTP/1.0\r\n\r\nhello"));
    let opened = "HTTP/1.0 200 OK\r\n\r\nhello";
    assert_eq!(String::from_utf8(session.take(opened.len())).unwrap(), opened);
}

#[test]
fn other_methods_get_405() {
    let site = Site::pve();
    let gate = gate(&site, &[]);
    for sent in [
        "GET / HTTP/1.1\r\nHost: node1:3128\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: node1:3128\r\nContent-Length: 3\r\n\r\nabc",
        "connect a:1 HTTP/1.0\r\nHost: a:1\r\n\r\n",
    ] {
        let reply = refusal_to(&gate, sent);
        assert_eq!((reply.status, reply.header("allow")), (405, Some("CONNECT")), "{sent}");
    }
}

#[test]
fn a_head_that_does_not_come_gets_408() {
    let site = Site::pve();
    let gate = gate(&site, &["timeout.header=1"]);
    let started = Instant::now();
    for sent in ["", "CONNECT pvespiceproxy:"] {
        assert_eq!(refusal_to(&gate, sent).status, 408, "{sent:?}");
    }
    assert!(started.elapsed() >= Duration::from_secs(2));
    eventually("both are in the log", || site.access_log().matches("\"-\" 408 ").count() == 2);
}

#[test]
fn a_head_that_is_too_large_gets_431() {
    let site = Site::pve();
    let gate = gate(&site, &[]);
    let target = target(&site, 61_000);
    let long = format!("CONNECT {target} HTTP/1.0\r\nHost: {target}\r\nX: {}\r\n\r\n", "x".repeat(8192));
    let many = format!("CONNECT {target} HTTP/1.0\r\nHost: {target}\r\n{}\r\n", "X: y\r\n".repeat(64));
    let endless = "CONNECT ".to_owned() + &"a".repeat(100_000);
    for sent in [long, many, endless] {
        assert_eq!(refusal_to(&gate, sent).status, 431);
    }
}

#[test]
fn a_closed_machine_port_is_a_502() {
    let (site, silent) = (Site::pve(), silent_port());
    let gate = gate(&site, &[]);
    let reply = refusal_to(&gate, viewer_head(&target(&site, silent.port)));
    assert_eq!(reply.status, 502);
    let text = reply.text();
    assert!(text.contains(&silent.port.to_string()) && text.contains("refused"), "{text}");
}

/// A missing one is a 500.
#[test]
fn replaced_secrets_take_effect_at_once() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let port = machine.address().port();
    let before = target(&site, port);
    Viewer::tunnel(&gate, &before);
    let fresh = Keys::fresh();
    site.write("/etc/pve/pve-www.key", fresh.secret_file());
    assert_eq!(refused(&gate, &before).0, 401);
    Viewer::tunnel(&gate, &fresh.spice_target("node1", 100, port, now()));
    std::fs::remove_file(site.path("/etc/pve/pve-www.key")).unwrap();
    assert_eq!(refused(&gate, &target(&site, port)).0, 500);
    site.write("/etc/pve/pve-www.key", site.keys.secret_file());
    Viewer::tunnel(&gate, &target(&site, port));
}
