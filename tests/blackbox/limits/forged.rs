//! Tickets with signatures that fit no key: at pages as at calls, and the same one sent again and again by a browser.

use std::time::{Duration, Instant};

use nodegate_standin::{Keys, now};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{BEHIND_A_PROXY, LOGIN, VERSION, behind_a_proxy, from, login};
use crate::support::nodegate::{eventually, looked_again};
use crate::support::{Nodegate, Reply, Session, Site, all_at_once};

const CLIENT: &str = "192.0.2.7";
const NEIGHBOUR: &str = "192.0.2.8";
const THREE: &str = "limits.login_failures=3";
const INDEX: &str = "/usr/share/pve-manager/index.html.tpl";

fn with_page() -> Site {
    let site = Site::pve();
    site.write(INDEX, "user '[% username %]'");
    site
}

fn cookie(keys: &Keys, user: &str) -> String {
    format!("Cookie: PVEAuthCookie={}\r\n", keys.ticket("PVE", user, now()))
}

fn page(gate: &Nodegate, client: &str, headers: &str) -> Reply {
    gate.get("/", &(from(client) + headers))
}

#[test]
fn pages_count_forged_tickets_and_are_not_delayed() {
    let (site, foreign) = (with_page(), Keys::fresh());
    let gate = behind_a_proxy(&site, &[THREE]);
    let good = site.cookie("root@pam");
    assert!(page(&gate, CLIENT, &good).text().contains("root@pam"));
    let began = Instant::now();
    for user in ["a@pam", "b@pam", "c@pam"] {
        let reply = page(&gate, CLIENT, &cookie(&foreign, user));
        assert_eq!((reply.status, reply.text().as_str()), (200, "user ''"));
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let line = format!("authentication failure; rhost={CLIENT} user=unknown msg=invalid ticket");
    eventually("each is in the log", || gate.stderr().matches(&line).count() >= 1);
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 429);
    assert_eq!(login(&gate, NEIGHBOUR, "root@pam", "demo").status, 200);
    assert!(page(&gate, CLIENT, &good).text().contains("root@pam"), "a ticket that was good stays so");
    assert_eq!(gate.get(VERSION, &(from(CLIENT) + &good)).status, 200);
}

/// A ticket that nobody has shown yet is good as well, but is not verified for a page.
#[test]
fn beyond_the_limit_pages_verify_no_new_ticket() {
    let (site, foreign) = (with_page(), Keys::fresh());
    let gate = behind_a_proxy(&site, &[THREE]);
    for user in ["a@pam", "b@pam", "c@pam"] {
        page(&gate, CLIENT, &cookie(&foreign, user));
    }
    let fresh = site.cookie("root@pam");
    assert_eq!(page(&gate, CLIENT, &fresh).text(), "user ''");
    assert!(page(&gate, NEIGHBOUR, &fresh).text().contains("root@pam"));
    assert!(page(&gate, CLIENT, &fresh).text().contains("root@pam"), "it was good a moment ago");
}

/// A cookie of before a reinstallation, or of another cluster: its browser sends it with every request.
#[test]
fn the_same_forged_ticket_counts_once() {
    let (site, foreign) = (with_page(), Keys::fresh());
    let gate = behind_a_proxy(&site, &[THREE]);
    let stale = cookie(&foreign, "root@pam");
    for _ in 0..10 {
        assert_eq!(page(&gate, CLIENT, &stale).text(), "user ''");
    }
    all_at_once(&[0; 10], |_| assert_eq!(gate.get(VERSION, &(from(CLIENT) + &stale)).status, 401));
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 200);
    let line = format!("rhost={CLIENT} ");
    assert_eq!(gate.stderr().matches(&line).count(), 1, "{}", gate.stderr());
    assert!(!gate.stderr().contains("PVE:root@pam"));
}

/// What a key does not fit today it may fit when another one is there.
#[test]
fn a_refused_ticket_is_good_once_its_key_is_there() {
    let (site, other) = (with_page(), Keys::fresh());
    let gate = behind_a_proxy(&site, &[THREE]);
    let ticket = cookie(&other, "root@pam");
    for _ in 0..2 {
        assert_eq!(page(&gate, CLIENT, &ticket).text(), "user ''");
        assert_eq!(gate.get(VERSION, &(from(CLIENT) + &ticket)).status, 401);
    }
    other.write_pve(site.root());
    looked_again();
    assert!(page(&gate, CLIENT, &ticket).text().contains("root@pam"));
}

#[test]
fn expired_and_half_tickets_at_pages_are_no_guesses() {
    let site = with_page();
    let gate = behind_a_proxy(&site, &["limits.login_failures=1"]);
    let expired = site.keys.ticket("PVE", "root@pam", now() - 9000);
    let half = site.keys.half_ticket("PVE", "root@pam", now());
    for ticket in [expired, half] {
        let ticket = format!("Cookie: PVEAuthCookie={}\r\n", utf8_percent_encode(&ticket, NON_ALPHANUMERIC));
        for _ in 0..3 {
            assert_eq!(page(&gate, CLIENT, &ticket).text(), "user ''");
        }
    }
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 200);
}

/// At a listener of the quarantine, in cookies and in the links of mails.
#[test]
fn forged_links_of_the_quarantine_count() {
    let (site, foreign) = (Site::pmg(), Keys::fresh());
    site.write("/usr/share/javascript/pmg-gui/pmg-index.html.tt", "user '[% username %]'");
    let listener =
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroutes = \"quarantine\"\n";
    site.write("/etc/nodegate/pmg.toml", listener);
    let gate = Nodegate::start(&site, &[&BEHIND_A_PROXY[..], &[THREE]].concat());
    let public = gate.listener("public");
    let ticket = |keys: &Keys, mail: &str| {
        utf8_percent_encode(&keys.ticket("PMGQUAR", mail, now()), NON_ALPHANUMERIC).to_string()
    };
    let get = |client: &str, path: &str, headers: &str| {
        Session::tls(public).request("GET", path, &(from(client) + headers), b"").text()
    };
    for _ in 0..5 {
        assert_eq!(
            get(CLIENT, &format!("/quarantine?ticket={}", ticket(&foreign, "a@example.com")), ""),
            "user ''"
        );
    }
    let good = format!("/quarantine?ticket={}", ticket(&site.keys, "user@example.com"));
    assert!(get(CLIENT, &good, "").contains("user@example.com"));
    assert_eq!(
        get(CLIENT, &format!("/quarantine?ticket={}", ticket(&foreign, "b@example.com")), ""),
        "user ''"
    );
    let forged = format!("Cookie: PMGAuthCookie={}\r\n", ticket(&foreign, "c@example.com"));
    assert_eq!(get(CLIENT, "/quarantine", &forged), "user ''");
    let form = "username=user%40example.com%40quarantine&password=x";
    let headers = from(CLIENT) + "Content-Type: application/x-www-form-urlencoded\r\n";
    let reply = Session::tls(public).request("POST", LOGIN, &headers, form.as_bytes());
    assert_eq!(reply.status, 429, "{reply:?}");
}
