//! Tickets with signatures that fit no key: at pages as at calls, and the same one sent again and again by a browser.

use std::time::{Duration, Instant};

use nodegate_standin::{Keys, now};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{BEHIND_A_PROXY, LOGIN, VERSION, behind_a_proxy, from, login};
use crate::support::nodegate::{eventually, wait_for_next_poll};
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

/// A ticket that no client has shown yet is valid as well, but is not verified for a page.
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

/// A key that does not fit today may fit after a rotation.
#[test]
fn a_rejected_ticket_passes_once_its_key_exists() {
    let (site, other) = (with_page(), Keys::fresh());
    let gate = behind_a_proxy(&site, &[THREE]);
    let ticket = cookie(&other, "root@pam");
    for _ in 0..2 {
        assert_eq!(page(&gate, CLIENT, &ticket).text(), "user ''");
        assert_eq!(gate.get(VERSION, &(from(CLIENT) + &ticket)).status, 401);
    }
    other.write_pve(site.root());
    wait_for_next_poll();
    assert!(page(&gate, CLIENT, &ticket).text().contains("root@pam"));
}

/// Neither are tickets whose second factor is missing.
#[test]
fn expired_tickets_at_pages_are_no_guesses() {
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

/// An office in the morning: browsers with the cookies of yesterday and of the week before, on a node with both keys.
#[test]
fn an_office_with_expired_cookies_logs_in() {
    let site = with_page();
    let other = Keys::fresh();
    other.write_pve_old(site.root());
    let gate = behind_a_proxy(&site, &[THREE]);
    let mut cookies = Vec::new();
    for (keys, hours) in [(&*site.keys, 3), (&*site.keys, 14), (&other, 26), (&Keys::fresh(), 72)] {
        for user in ["a@pam", "b@pam"] {
            let ticket = keys.ticket("PVE", user, now() - hours * 3600);
            let cookie = format!("Cookie: PVEAuthCookie={ticket}\r\n");
            assert_eq!(page(&gate, CLIENT, &cookie).text(), "user ''");
            cookies.push(cookie);
        }
    }
    all_at_once(&cookies, |cookie| assert_eq!(gate.get(VERSION, &(from(CLIENT) + cookie)).status, 401));
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 200);
    assert!(!gate.stderr().contains("authentication failure"), "{}", gate.stderr());
}

/// A node that joins a cluster gets other keys, while its users work.
#[test]
fn tickets_whose_key_was_replaced_are_no_guesses() {
    let (site, other) = (with_page(), Keys::fresh());
    let gate = behind_a_proxy(&site, &[THREE]);
    let cookies = ["a@pam", "b@pam", "c@pam", "d@pam"].map(|user| cookie(&site.keys, user));
    for cookie in &cookies {
        assert_eq!(gate.get(VERSION, &(from(CLIENT) + cookie)).status, 200);
    }
    other.write_pve(site.root());
    wait_for_next_poll();
    all_at_once(&cookies, |cookie| assert_eq!(gate.get(VERSION, &(from(CLIENT) + cookie)).status, 401));
    for cookie in &cookies {
        assert_eq!(page(&gate, CLIENT, cookie).text(), "user ''");
    }
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 200);
    assert!(!gate.stderr().contains("authentication failure"), "{}", gate.stderr());
}

/// They displace those of other addresses no more.
#[test]
fn beyond_the_limit_refused_tickets_are_not_remembered() {
    let (site, foreign) = (with_page(), Keys::fresh());
    let gate = behind_a_proxy(&site, &[THREE]);
    for user in ["a@pam", "b@pam", "c@pam"] {
        page(&gate, CLIENT, &cookie(&foreign, user));
    }
    let more = cookie(&foreign, "d@pam");
    all_at_once(&[0; 2], |_| assert_eq!(gate.get(VERSION, &(from(CLIENT) + &more)).status, 429));
    assert_eq!(gate.get(VERSION, &(from(CLIENT) + &more)).status, 429);
    assert!(gate.stderr().contains("ticket refused: "), "{}", gate.stderr());
    assert!(!gate.stderr().contains("ticket refused again"), "{}", gate.stderr());
}

const QUARANTINE: &str =
    "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroute_scope = \"quarantine\"\n";

/// A Mail Gateway with a listener of the quarantine, behind a proxy.
fn mail_gateway() -> (Site, Nodegate) {
    let site = Site::pmg();
    site.write("/usr/share/javascript/pmg-gui/pmg-index.html.tt", "user '[% username %]'");
    site.write("/etc/nodegate/pmg.toml", QUARANTINE);
    let gate = Nodegate::start(&site, &[&BEHIND_A_PROXY[..], &[THREE]].concat());
    (site, gate)
}

fn escaped(ticket: &str) -> String {
    utf8_percent_encode(ticket, NON_ALPHANUMERIC).to_string()
}

/// A ticket of the GUI in a link is no link of the quarantine, and the cookie stays good.
#[test]
fn a_good_ticket_in_a_link_stays_good() {
    let (site, gate) = mail_gateway();
    let ticket = escaped(&site.ticket("root@pam"));
    let cookie = format!("Cookie: PMGAuthCookie={ticket}\r\n");
    for path in ["/", "/quarantine"] {
        assert_eq!(gate.get(&format!("{path}?ticket={ticket}"), &from(CLIENT)).text(), "user ''");
    }
    assert_eq!(gate.get(VERSION, &(from(CLIENT) + &cookie)).status, 200);
    assert!(page(&gate, CLIENT, &cookie).text().contains("root@pam"));
    assert!(!gate.stderr().contains("authentication failure"), "{}", gate.stderr());
    let link = escaped(&site.keys.ticket("PMGQUAR", "user@example.com", now()));
    for link in [escaped(&link), link] {
        let reply = gate.get(&format!("/quarantine?ticket={link}"), &from(CLIENT));
        assert!(reply.text().contains("user@example.com"), "{link}");
    }
}

/// Mail programs encode links once more. One that came too late is no guess.
#[test]
fn expired_links_encoded_twice_are_no_guesses() {
    let (site, gate) = mail_gateway();
    for mail in ["a@example.com", "b@example.com", "c@example.com"] {
        let link = escaped(&escaped(&site.keys.ticket("PMGQUAR", mail, now() - 30 * 86_400)));
        assert_eq!(gate.get(&format!("/quarantine?ticket={link}"), &from(CLIENT)).text(), "user ''");
    }
    assert!(!gate.stderr().contains("authentication failure"), "{}", gate.stderr());
    for mail in ["a@example.com", "b@example.com", "c@example.com"] {
        let link = escaped(&escaped(&Keys::fresh().ticket("PMGQUAR", mail, now())));
        assert_eq!(gate.get(&format!("/quarantine?ticket={link}"), &from(CLIENT)).text(), "user ''");
    }
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 429);
}

/// At a listener of the quarantine, in cookies and in the links of mails.
#[test]
fn forged_links_of_the_quarantine_count() {
    let foreign = Keys::fresh();
    let (site, gate) = mail_gateway();
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
