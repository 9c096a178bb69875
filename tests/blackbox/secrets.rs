//! Nothing secret is in any log, however much is logged: every kind of credential, good, wrong, and in odd places.

use nodegate_standin::{API_TOKEN, now};

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site};

const VERSION: &str = "/api2/json/version";
const PASSWORD: &str = "correct-horse-battery";

/// A text as it is, percent-encoded, and its last characters: any part that would be enough to use it.
fn forms(secret: &str) -> Vec<String> {
    let encoded = secret.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace(':', "%3A");
    let end = secret.get(secret.len().saturating_sub(24)..).unwrap_or(secret);
    vec![secret.to_owned(), encoded, end.to_owned()]
}

fn assert_hidden(log: &str, secrets: &[String]) {
    for form in secrets.iter().flat_map(|secret| forms(secret)) {
        let line = log.lines().find(|line| line.contains(&form));
        assert!(line.is_none(), "{form} is in\n{}", line.unwrap());
    }
}

#[test]
fn api_credentials_are_in_no_log() {
    for format in ["text", "json"] {
        let site = Site::pve();
        let gate = Nodegate::start(&site, &[&format!("log.format={format}"), "limits.login_failures=0"]);
        let (ticket, csrf) = (site.ticket("root@pam"), site.keys.csrf("root@pam", now()));
        let old = site.keys.ticket("PVE", "root@pam", now() - 100_000);
        let forged = format!("{}x", ticket.trim_end_matches('='));
        let wrong_csrf = site.keys.csrf("other@pam", now());
        let vnc = site.keys.vnc_ticket("PVEVNC", "root@pam", "/vms/100", 5901, now());
        let escaped = vnc.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let token = API_TOKEN.split('=').nth(1).unwrap().to_owned();
        let login = format!("username=root%40pam&password={PASSWORD}");
        let cookie = |ticket: &str| format!("Cookie: PVEAuthCookie={ticket}\r\n");
        let good = cookie(&ticket);
        let console = format!("/api2/json/nodes/node1/qemu/100/vncwebsocket?port=5901&vncticket={escaped}");
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let requests = [
            ("POST", "/api2/json/access/ticket".to_owned(), String::new(), login.as_str()),
            ("GET", VERSION.to_owned(), good.clone(), ""),
            ("POST", "/api2/json/nodes".to_owned(), format!("{good}CSRFPreventionToken: {csrf}\r\n"), "a=b"),
            (
                "POST",
                "/api2/json/nodes".to_owned(),
                format!("{good}CSRFPreventionToken: {wrong_csrf}\r\n"),
                "a=b",
            ),
            ("GET", VERSION.to_owned(), format!("Authorization: PVEAPIToken={API_TOKEN}\r\n"), ""),
            ("GET", VERSION.to_owned(), format!("Authorization: PVEAPIToken={API_TOKEN}x\r\n"), ""),
            ("GET", VERSION.to_owned(), cookie(&old), ""),
            ("GET", VERSION.to_owned(), cookie(&forged), ""),
            ("GET", console.clone(), format!("{good}{upgrade}"), ""),
            ("GET", console, good.clone(), ""),
            ("GET", format!("{VERSION}?password={PASSWORD}&ticket={escaped}"), good.clone(), ""),
            ("GET", "/".to_owned(), good, ""),
        ];
        crate::support::all_at_once(&requests, |(method, path, headers, body)| {
            let kind =
                if body.is_empty() { "" } else { "Content-Type: application/x-www-form-urlencoded\r\n" };
            gate.request(method, path, &[headers, kind].concat(), body.as_bytes());
        });
        eventually("all is logged", || site.access_log().lines().count() >= requests.len());
        let secrets = [ticket, csrf, old, forged, wrong_csrf, vnc, token, PASSWORD.to_owned()];
        assert_hidden(&gate.stderr(), &secrets);
        assert_hidden(&site.access_log(), &secrets);
        assert!(gate.stderr().contains("request failed"), "the debug log was on");
    }
}

#[test]
fn no_spice_ticket_is_in_a_log() {
    for format in ["text", "json"] {
        let site = Site::pve();
        let gate = Nodegate::start_profile(&site, "spice", &[&format!("log.format={format}")]);
        let good = site.keys.spice_target("node1", 100, 61_999, now());
        let old = site.keys.spice_target("node1", 100, 61_999, now() - 1000);
        let elsewhere = site.keys.spice_target("nowhere", 100, 61_999, now());
        for target in [&good, &old, &elsewhere] {
            let mut session = Session::plain(gate.local());
            session.send(format!("CONNECT {target} HTTP/1.0\r\nHost: {target}\r\n\r\n"));
            session.rest();
        }
        eventually("all is logged", || site.access_log().lines().count() >= 3);
        let signature =
            |target: &str| target.split("::").nth(1).unwrap().split(':').next().unwrap().to_owned();
        let secrets = [signature(&good), signature(&old), signature(&elsewhere)];
        assert!(secrets.iter().all(|secret| secret.len() == 40), "{secrets:?}");
        assert_hidden(&gate.stderr(), &secrets);
        assert_hidden(&site.access_log(), &secrets);
    }
}
