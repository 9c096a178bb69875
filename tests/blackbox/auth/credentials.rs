//! Where the credential is taken from, in the forms that real clients send.

use nodegate_standin::API_TOKEN;

use super::{Attempt, INVALID_PVE, settled};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site, all_at_once};

fn escaped(ticket: &str) -> String {
    percent_encoding::utf8_percent_encode(ticket, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Clients send the ticket in many forms.
#[test]
fn tickets_are_forwarded_in_one_form() {
    let site = settled();
    let gate = Nodegate::start(&site, &[]);
    let ticket = site.ticket("root@pam");
    let percent = escaped(&ticket);
    let forms = [
        format!("Cookie: PVEAuthCookie={ticket}"),
        format!("cookie:PVEAuthCookie={ticket}"),
        format!("Cookie: PVEAuthCookie={percent}"),
        format!("Cookie: PVEAuthCookie=\"{ticket}\""),
        format!("Cookie: PVEAuthCookie=\"{percent}\""),
        format!("Cookie: PVEAuthCookie={percent}; path=/; secure; SameSite=Lax;"),
        format!("Cookie: PVELangCookie=de; PVEAuthCookie={ticket}; other=1"),
        format!("Cookie: xPVEAuthCookie=no; PVEAuthCookie={percent}"),
        format!("Cookie: PVELangCookie=de\r\nCookie: PVEAuthCookie={percent}"),
        format!("Cookie: PVEAuthCookie=\r\nAuthorization: PVEAuthCookie={percent}"),
        format!("Cookie: PVEAuthCookie=0\r\nAuthorization: PVEAuthCookie={percent}"),
        format!("Authorization: PVEAuthCookie={ticket}"),
        format!("Authorization: PVEAuthCookie={percent}"),
        format!("Authorization: PVEAuthCookie {percent}"),
        format!("Cookie: PVEAuthCookie={ticket}\r\nAuthorization: PVEAPIToken={API_TOKEN}"),
        format!("Cookie: PVEAuthCookie={ticket}\r\nAuthorization: Basic cm9vdDpyb290"),
    ];
    for form in forms {
        site.daemon.clear();
        let reply = gate.get("/api2/json/version", &format!("{form}\r\n"));
        assert_eq!(reply.status, 200, "{form}");
        let seen = site.daemon.last();
        assert_eq!(seen.all("authorization"), [""; 0], "{form}");
        let expected = format!(
            "PVEAuthCookie={}",
            percent.replace("%2D", "-").replace("%2E", ".").replace("%5F", "_").replace("%7E", "~")
        );
        assert_eq!(seen.all("cookie"), [expected.as_str()], "{form}");
    }
}

#[test]
fn malformed_credentials_are_ignored() {
    let site = settled();
    let gate = Nodegate::start(&site, &[]);
    let ticket = site.ticket("root@pam");
    let none = "No ticket";
    let cases = [
        (String::new(), none),
        (format!("Cookie: pveauthcookie={ticket}\r\n"), none),
        (format!("Cookie: PMGAuthCookie={ticket}\r\n"), none),
        (format!("Cookie: XPVEAuthCookie={ticket}\r\n"), none),
        (format!("Cookie: a=1;PVEAuthCookie={ticket}\r\n"), none),
        (format!("Cookie: PVE%41uthCookie={ticket}\r\n"), none),
        ("Cookie: PVEAuthCookie=\r\n".into(), none),
        ("Cookie: PVEAuthCookie=0\r\n".into(), none),
        ("Cookie: PVEAuthCookie=%30\r\n".into(), none),
        (format!("X-Cookie: PVEAuthCookie={ticket}\r\n"), none),
        (format!("Authorization: Bearer {ticket}\r\n"), none),
        (format!("Authorization: {ticket}\r\n"), none),
        (format!("Cookie: PVEAPIToken={API_TOKEN}\r\n"), none),
        (format!("Cookie: PVEAuthCookie=x; PVEAuthCookie={ticket}\r\n"), INVALID_PVE),
        (format!("Cookie: PVEAuthCookie=x\r\nAuthorization: PVEAuthCookie={ticket}\r\n"), INVALID_PVE),
        (format!("Cookie: PVEAuthCookie=x\r\nAuthorization: PVEAPIToken={API_TOKEN}\r\n"), INVALID_PVE),
        (format!("Cookie: PVEAuthCookie={}\r\n", escaped(&escaped(&ticket))), INVALID_PVE),
    ];
    all_at_once(&cases, |(headers, reason)| {
        Attempt::read(&site, &gate, headers).assert_refused(reason, headers);
    });
}

/// The daemon verifies the API token.
#[test]
fn api_tokens_need_no_csrf_token() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let escaped_token = escaped(API_TOKEN);
    for form in [
        format!("PVEAPIToken={API_TOKEN}"),
        format!("PVEAPIToken {API_TOKEN}"),
        format!("PVEAPIToken={escaped_token}"),
    ] {
        let headers = format!("Authorization: {form}\r\n");
        assert_eq!(gate.get("/api2/json/version", &headers).status, 200, "{form}");
        let reply = gate.request("PUT", "/api2/json/cluster/options", &headers, b"a=1");
        assert_eq!(reply.status, 200, "{form}");
        let seen = site.daemon.last();
        assert_eq!(
            seen.all("authorization"),
            ["PVEAPIToken root%40pam%21t%3D5f0c1a52-0000-4000-8000-000000000001"]
        );
        assert!(seen.header("cookie").is_none());
    }
    let wrong = API_TOKEN.replace('5', "6");
    let attempt = Attempt::read(&site, &gate, &format!("Authorization: PVEAPIToken={wrong}\r\n"));
    attempt.assert_passes("a token that only the daemon can judge");
    assert_eq!(attempt.reply.status, 401);
    eventually("the token is logged by name", || site.access_log().contains(" - root@pam!t ["));
}

#[test]
fn a_malformed_api_token_is_refused() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let tokens = [
        "root@pam!t",
        "root@pam=5f0c1a52-0000-4000-8000-000000000001",
        "root!t=5f0c1a52-0000-4000-8000-000000000001",
        "root@pam!t=",
        "root@pam!t=secret",
        "root@pam!t=5f0c1a52 0000",
        "root@pam!=5f0c1a52-0000-4000-8000-000000000001",
        "x",
        "root@pam!t=5f0c%0d%0aPVEClientIP:%201.2.3.4",
    ];
    all_at_once(&tokens, |token| {
        let headers = format!("Authorization: PVEAPIToken={token}\r\n");
        Attempt::read(&site, &gate, &headers).assert_refused(INVALID_PVE, token);
    });
}
