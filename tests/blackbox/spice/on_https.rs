//! Viewers at the port of the API, where the settings let them in.

use std::time::{Duration, Instant};

use super::over_tls::{sealed, welcomed};
use super::{echoing_machine, target, viewer_head};
use crate::status::report;
use crate::support::nodegate::{command, eventually};
use crate::support::{Nodegate, Outcome, Session, Site};

const VERSION: &str = "/api2/json/version";

fn both(site: &Site, sets: &[&str]) -> Nodegate {
    Nodegate::start(site, &[&["tunnel.connect_on_https=true"], sets].concat())
}

#[test]
fn the_api_port_accepts_viewers_by_setting() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = both(&site, &[]);
    let port = machine.address().port();
    let target = target(&site, port);
    let mut viewer = Session::tls(gate.local());
    viewer.send(viewer_head(&target) + "early");
    welcomed(&mut viewer);
    assert_eq!(viewer.take(5), b"early");
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    let reported = report(&site, &gate, "pve");
    assert_eq!((&reported["tunnels"], &reported["open"][0]["up"]), (&1.into(), &5.into()));
    assert_eq!(reported["open"][0]["target"], format!("machine 100, port {port}"));
    viewer.send("late");
    viewer.finish();
    assert_eq!(viewer.rest(), b"late");
    eventually("both are in the log", || site.access_log().lines().count() == 2);
    let log = site.access_log();
    assert!(log.lines().next().unwrap().contains(&format!("::***:{port} HTTP/1.0\" 200 -")), "{log}");
    let signature = regex::Regex::new("[0-9a-f]{40}").unwrap();
    assert!(!signature.is_match(&log) && !signature.is_match(&gate.stderr()), "{log}{}", gate.stderr());
}

#[test]
fn heads_in_pieces_are_classified() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = both(&site, &[]);
    let head = viewer_head(&target(&site, machine.address().port()));
    let cookie = site.cookie("root@pam");
    let call = format!("GET {VERSION} HTTP/1.1\r\nHost: node1:8006\r\n{cookie}\r\n");
    for first in [1, 4, 7, 8, 9, 200] {
        let mut viewer = Session::tls(gate.local());
        for piece in [&head[..first], &head[first..]] {
            viewer.send(piece);
        }
        welcomed(&mut viewer);
        viewer.send("x");
        assert_eq!(viewer.take(1), b"x");
        let mut client = Session::tls(gate.local());
        for _ in 0..2 {
            for piece in [&call[..first], &call[first..]] {
                client.send(piece);
            }
            assert_eq!(client.reply(false).status, 200);
        }
    }
}

#[test]
fn a_long_first_request_is_no_tunnel() {
    let site = Site::pve();
    let gate = both(&site, &[]);
    // Its method begins like the other one.
    let padding = format!("X-Padding: {}\r\n", "x".repeat(6000));
    assert_eq!(gate.request("CONNECTED", VERSION, &padding, b"").status, 501);
    let headers = site.cookie("root@pam") + &padding;
    assert_eq!(gate.get(VERSION, &headers).status, 200);
    let body = vec![b'x'; 100_000];
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    assert_eq!(gate.request("PUT", "/api2/json/cluster/options", &headers, &body).status, 200);
}

#[test]
fn by_default_that_port_takes_no_viewers() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = Nodegate::start(&site, &[]);
    let mut viewer = Session::tls(gate.local());
    viewer.send(viewer_head(&target(&site, machine.address().port())));
    assert_eq!(viewer.reply(false).status, 400);
}

#[test]
fn a_connect_must_be_the_first_request() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = both(&site, &[]);
    let mut client = Session::tls(gate.local());
    assert_eq!(client.request("GET", VERSION, &site.cookie("root@pam"), b"").status, 200);
    client.send(viewer_head(&target(&site, machine.address().port())));
    assert_eq!(client.reply(false).status, 400);
    let mut plain = Session::plain(gate.local());
    plain.send(viewer_head(&target(&site, machine.address().port())));
    assert_eq!(plain.reply(false).status, 400);
}

/// It rejects them as the tunnel's own port does.
#[test]
fn the_api_port_rejects_viewers_equally() {
    let site = Site::pve();
    let gate = both(&site, &[]);
    let expired = site.keys.spice_target("node1", 100, 61_000, nodegate_standin::now() - 100);
    for (sent, status, text) in [
        (viewer_head(&expired), 401, "invalid ticket"),
        ("CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n".to_owned(), 401, "invalid ticket"),
        ("CONNECT a:1 HTTP/1.0\r\nHost: b:1\r\n\r\n".to_owned(), 400, "disagree"),
    ] {
        let mut viewer = Session::tls(gate.local());
        viewer.send(&sent);
        let reply = viewer.reply(false);
        assert_eq!(reply.status, status, "{sent}");
        assert!(reply.text().contains(text), "{}", reply.text());
        assert!(viewer.is_closed());
    }
}

#[test]
fn any_half_head_gets_a_408() {
    let site = Site::pve();
    let gate = both(&site, &["timeout.header=2"]);
    for sent in ["", "CONN", "CONNECT pvespiceproxy:", "GET /"] {
        let began = Instant::now();
        let mut client = Session::tls(gate.local());
        client.send(sent);
        assert_eq!(client.reply(false).status, 408, "{sent}");
        let took = began.elapsed();
        assert!(
            (Duration::from_millis(1900)..Duration::from_millis(3900)).contains(&took),
            "{sent}: {took:?}"
        );
    }
    let mut leaves = Session::tls(gate.local());
    leaves.send("CONN");
    leaves.finish();
    assert_eq!(leaves.rest(), b"");
}

#[test]
fn route_names_the_destination_of_a_ticket() {
    let site = Site::pve();
    let root = site.root().to_str().unwrap();
    let target = target(&site, 61_000);
    for (set, line) in
        [("tunnel.connect_on_https=1", "tunnel login"), ("tunnel.connect_on_https=0", "refused:400")]
    {
        let outcome =
            Outcome::of(&mut command(&["--root", root, "--set", set, "route", "pve", "CONNECT", &target]));
        assert!(outcome.stdout.starts_with(line), "{outcome:?}");
        let outcome =
            Outcome::of(&mut command(&["--root", root, "--set", set, "route", "pve", "GET", VERSION]));
        assert!(outcome.stdout.starts_with("daemon login"), "{outcome:?}");
    }
}

#[test]
fn viewers_need_a_product_with_tickets() {
    let site = Site::pmg();
    let root = site.root().to_str().unwrap();
    let set = ["--root", root, "--set", "tunnel.connect_on_https=1", "check", "pmg"];
    let outcome = Outcome::of(&mut command(&set));
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.contains("tunnel.connect_on_https: this profile has no [product.connect]"),
        "{outcome:?}"
    );
}

#[test]
fn a_stop_ends_a_viewer_there_too() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = both(&site, &["timeout.stop=5"]);
    let mut viewer = sealed(&gate, &target(&site, machine.address().port()));
    let began = Instant::now();
    assert_eq!(gate.stop().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(viewer.rest(), b"");
}
