//! Newcomers, while strangers from many addresses hold all that strangers may have.

use std::net::TcpStream;

use super::{BEHIND_A_PROXY, LOGIN, VERSION};
use crate::spice;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site};

fn proxied(client: &str) -> String {
    let family = if client.contains(':') { "TCP6 2001:db8:ffff::1" } else { "TCP4 192.0.2.1" };
    let (family, server) = family.split_once(' ').unwrap();
    format!("PROXY {family} {client} {server} 1000 8006\r\n")
}

fn gate(site: &Site, sets: &[&str]) -> Nodegate {
    let all = [&BEHIND_A_PROXY[..], &["listen.proxy_protocol=true", "timeout.header=60"], sets].concat();
    Nodegate::start(site, &all)
}

fn newcomer(gate: &Nodegate, client: &str) -> Session {
    Session::tls_behind(proxied(client).as_bytes(), "127.0.0.1", gate.local()).unwrap()
}

#[test]
fn half_heads_from_many_addresses_exclude_no_user() {
    for network in ["2001:db8:0:", "2001:db8:"] {
        let site = Site::pve();
        let gate = gate(&site, &["limits.connections=200"]);
        let held: Vec<_> = (1..=220)
            .map(|each| {
                let attacker = proxied(&format!("{network}{each:x}::1"));
                let mut session = Session::tls_behind(attacker.as_bytes(), "127.0.0.1", gate.local()).ok()?;
                session.try_send("G").ok()?;
                Some(session)
            })
            .collect();
        let cookie = site.cookie("root@pam");
        let mut browser: Vec<_> = (0..6).map(|_| newcomer(&gate, "203.0.113.7")).collect();
        for session in &mut browser {
            assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200, "{network}");
        }
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let password = b"username=root@pam&password=demo";
        let reply = newcomer(&gate, "203.0.113.8").request("POST", LOGIN, form, password);
        assert_eq!(reply.status, 200, "{network}: {reply:?}");
        drop(held);
    }
}

#[test]
fn silent_clients_leave_permits_to_users() {
    let site = Site::pve();
    let gate = gate(&site, &["limits.connections=40"]);
    let silent = |each: usize| {
        use std::io::Write as _;
        let mut stream = TcpStream::connect(gate.local()).unwrap();
        let _ = stream.write_all(proxied(&format!("2001:db8:{each:x}::1")).as_bytes());
        stream
    };
    let held: Vec<_> = (0..60).map(silent).collect();
    eventually("all are there", || {
        newcomer(&gate, "203.0.113.7").request("GET", VERSION, &site.cookie("root@pam"), b"").status == 200
    });
    for last in 8..14 {
        let mut user = newcomer(&gate, &format!("203.0.113.{last}"));
        assert_eq!(user.request("GET", VERSION, &site.cookie("root@pam"), b"").status, 200);
    }
    drop(held);
}

#[test]
fn half_heads_of_tunnels_give_way_to_viewers() {
    let sets = ["limits.connections=40", "timeout.header=60"];
    for profile in ["spice", "pve"] {
        let (site, machine) = (Site::pve(), spice::echoing_machine());
        let gate = if profile == "spice" {
            Nodegate::start_profile(&site, profile, &sets)
        } else {
            Nodegate::start(&site, &[&sets[..], &["tunnel.connect_on_https=true"]].concat())
        };
        let begin = |_: usize| {
            let mut session = Session::try_tls(gate.local()).ok()?;
            session.try_send("CONNECT pvespiceproxy:aaa").ok()?;
            Some(session)
        };
        let mut held: Vec<_> = (0..50).filter_map(begin).collect();
        let target = spice::target(&site, machine.address().port());
        let mut viewer = Session::tls(gate.local());
        viewer.send(format!("CONNECT {target} HTTP/1.0\r\nHost: {target}\r\n\r\n"));
        let welcome = b"HTTP/1.0 200 OK\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&viewer.take(welcome.len())), String::from_utf8_lossy(welcome));
        eventually("the oldest are closed", || {
            held.retain_mut(|session| !session.is_over());
            held.len() <= 30
        });
        let mut late: Vec<_> = (0..50).filter_map(begin).collect();
        viewer.send("still here");
        assert_eq!(viewer.take(10), b"still here", "{profile}");
        late.retain_mut(|session| !session.is_over());
        assert!(late.len() >= 20, "{profile}: {} are left", late.len());
    }
}
