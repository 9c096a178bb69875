//! Bodies that are announced and do not come, or come slowly: they take no room from other clients.

use nodegate_standin::API_TOKEN;

use super::{BEHIND_A_PROXY, LOGIN, from, login};
use crate::support::{Nodegate, Session, Site};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const OPTIONS: &str = "/api2/json/cluster/options";

/// All bodies together have 1 MiB.
const LITTLE: [&str; 3] = ["limits.buffered=1048576", "limits.body=262144", "timeout.body=60"];

fn start(site: &Site, more: &[&str]) -> Nodegate {
    Nodegate::start(site, &[&BEHIND_A_PROXY[..], &LITTLE, more].concat())
}

/// A call whose body is announced, and of which so much comes.
fn begin(
    gate: &Nodegate,
    method: &str,
    path: &str,
    headers: &str,
    (announced, sent): (usize, usize),
) -> Session {
    let mut session = Session::tls(gate.local());
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{FORM}Content-Length: {announced}\r\n{headers}\r\n");
    let _ = session.try_send([head.as_bytes(), &vec![b'x'; sent]].concat());
    session
}

#[test]
fn bodies_only_announced_lock_no_login_out() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let mut held = Vec::new();
    for client in 1..46 {
        let token = "Authorization: PVEAPIToken=a@pam!x=0\r\n";
        for announced in [65_536, 16_384, 4096, 1024, 256, 256] {
            let headers = from(&format!("2001:db8:{client:x}::1")) + token;
            held.push(begin(&gate, "POST", OPTIONS, &headers, (announced, 0)));
        }
    }
    let reply = login(&gate, "192.0.2.1", "root@pam", "demo");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(held.iter_mut().all(|session| !session.has_reply()));
}

#[test]
fn bodies_of_one_user_leave_room_to_others() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let user = |name: &str| site.cookie(name) + &site.csrf(name);
    let mut held = Vec::new();
    for client in 1..20 {
        let headers = from(&format!("2001:db8:{client:x}::1")) + &user("root@pam");
        for size in [200_000, 100_000, 50_000, 16_000, 5_000, 300] {
            held.push(begin(&gate, "PUT", OPTIONS, &headers, (size, size - 100)));
        }
    }
    for (client, name, bytes) in [("192.0.2.1", "root@pam", 300), ("192.0.2.2", "demo@pve", 100_000)] {
        let headers = from(client) + &user(name) + FORM;
        let reply = gate.request("PUT", OPTIONS, &headers, &vec![b'x'; bytes]);
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
    }
    drop(held);
}

#[test]
fn a_tokens_first_call_may_be_large() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &BEHIND_A_PROXY);
    let headers = from("192.0.2.1") + FORM + &format!("Authorization: PVEAPIToken={API_TOKEN}\r\n");
    let reply = gate.request("PUT", OPTIONS, &headers, &[b'x'; 300_000]);
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn no_large_body_is_awaited_beyond_the_limit() {
    let site = Site::pve();
    let gate = Nodegate::start(
        &site,
        &[&BEHIND_A_PROXY[..], &["limits.login_failures=1", "timeout.login_body=600", "timeout.body=600"]]
            .concat(),
    );
    let client = "192.0.2.1";
    assert_eq!(login(&gate, client, "root@pam", "wrong").status, 401);
    let token = "Authorization: PVEAPIToken=a@pam!x=0\r\n";
    for (path, more) in [(LOGIN, ""), (OPTIONS, token)] {
        let reply = begin(&gate, "POST", path, &(from(client) + more), (10_000, 0)).reply(false);
        assert_eq!(reply.status, 429, "{path}: {}", reply.text());
    }
}
