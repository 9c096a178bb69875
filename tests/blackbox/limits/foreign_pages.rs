//! Pages of other sites that make the browser of a visitor guess: its address must not be locked out for that.

use nodegate_standin::{Keys, now};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{BEHIND_A_PROXY, LOGIN, behind_a_proxy, from, login, verified};
use crate::support::{Nodegate, Reply, Session, Site};

const CLIENT: &str = "192.0.2.7";
const THREE: &str = "limits.login_failures=3";
const PANEL: &str = "https://panel.example.com";
const EVIL: &str = "https://evil.example.com";

fn log_in(gate: &Nodegate, password: &str, browser: &str) -> Reply {
    let headers = from(CLIENT) + "Content-Type: application/x-www-form-urlencoded\r\n" + browser;
    gate.request("POST", LOGIN, &headers, format!("username=root@pam&password={password}").as_bytes())
}

fn fetch(site: &str, origin: &str) -> String {
    format!("Sec-Fetch-Site: {site}\r\nOrigin: {origin}\r\n")
}

#[test]
fn logins_of_foreign_pages_are_refused_unheard() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    for kind in ["cross-site", "same-site"] {
        for origin in [EVIL, PANEL, "null"] {
            let reply = log_in(&gate, "x", &fetch(kind, origin));
            assert_eq!(reply.status, 403, "{kind} {origin}");
            let message = reply.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains(origin) && message.contains("cors.origins"), "{message}");
        }
    }
    for call in ["POST /access/openid/login", "POST /access/openid/auth-url", "POST /access/vncticket"] {
        let (method, path) = call.split_once(' ').unwrap();
        let headers = from(CLIENT) + &fetch("cross-site", EVIL);
        assert_eq!(gate.request(method, &format!("/api2/json{path}"), &headers, b"").status, 403, "{call}");
    }
    assert_eq!(verified(&site), 0);
    assert!(!gate.stderr().contains("authentication failure"), "{}", gate.stderr());
    for browser in ["", "Sec-Fetch-Site: none\r\n", &fetch("same-origin", "https://pve.example.com")] {
        assert_eq!(log_in(&gate, "demo", browser).status, 200, "{browser}");
    }
}

/// An origin of `cors.origins` may also send logins. Its wrong passwords count.
#[test]
fn listed_panels_log_in() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE, &format!("cors.origins={PANEL}")]);
    for kind in ["cross-site", "same-site"] {
        assert_eq!(log_in(&gate, "demo", &fetch(kind, PANEL)).status, 200);
        assert_eq!(log_in(&gate, "demo", &fetch(kind, EVIL)).status, 403);
    }
    assert_eq!(log_in(&gate, "x", &fetch("cross-site", PANEL)).status, 401);
}

#[test]
fn images_of_foreign_pages_show_no_tickets() {
    let (site, foreign) = (Site::pmg(), Keys::fresh());
    site.write("/usr/share/javascript/pmg-gui/pmg-index.html.tt", "user '[% username %]'");
    let listener =
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroute_scope = \"quarantine\"\n";
    site.write("/etc/nodegate/pmg.toml", listener);
    let gate = Nodegate::start(&site, &[&BEHIND_A_PROXY[..], &[THREE]].concat());
    let public = gate.listener("public");
    let open = |keys: &Keys, mail: &str, browser: &str| {
        let ticket = keys.ticket("PMGQUAR", mail, now());
        let path = format!("/quarantine?ticket={}", utf8_percent_encode(&ticket, NON_ALPHANUMERIC));
        let page = gate.get(&path, &(from(CLIENT) + browser));
        let reply = Session::tls(public).request("GET", &path, &(from(CLIENT) + browser), b"");
        assert_eq!((page.status, reply.status), (200, 200), "{browser}");
        assert_eq!(page.text(), reply.text(), "{browser}");
        reply.text()
    };
    let kinds = |site: &str, mode: &str, dest: &str| {
        format!("Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\nSec-Fetch-Dest: {dest}\r\n")
    };
    for (number, kind) in ["cross-site", "same-site"].into_iter().enumerate() {
        for (mode, dest) in [("no-cors", "image"), ("no-cors", "empty"), ("navigate", "iframe")] {
            let browser = kinds(kind, mode, dest);
            assert_eq!(open(&foreign, &format!("{dest}{number}@example.com"), &browser), "user ''");
            assert_eq!(open(&site.keys, "user@example.com", &browser), "user ''");
        }
    }
    assert!(!gate.stderr().contains("authentication failure"), "{}", gate.stderr());
    let clicked = kinds("cross-site", "navigate", "document");
    let own_frame = kinds("same-origin", "navigate", "iframe");
    for browser in ["", &clicked, &own_frame, &kinds("none", "navigate", "document")] {
        assert!(open(&site.keys, "user@example.com", browser).contains("user@example.com"), "{browser}");
    }
    for mail in ["a@example.com", "b@example.com", "c@example.com"] {
        assert_eq!(open(&foreign, mail, &clicked), "user ''");
    }
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 429, "links that were clicked count");
}
