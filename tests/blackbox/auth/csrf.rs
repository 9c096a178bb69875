//! Writing with a ticket needs its CSRF token: the daemon behind does not ask for it.

use nodegate_standin::{Keys, now};

use super::{Attempt, BAD_CSRF, INVALID_PVE};
use crate::support::{Nodegate, Site, all_at_once};

fn line(token: &str) -> String {
    format!("CSRFPreventionToken: {token}\r\n")
}

/// The token has to belong to the ticket's user.
#[test]
fn writes_need_a_fresh_csrf_token() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let user = "root@pam";
    let aged = |age: i64| line(&site.keys.csrf(user, now() - age));
    let good = site.keys.csrf(user, now());
    let (time, mac) = good.split_once(':').unwrap();
    let cases = [
        (aged(0), true, "a fresh token"),
        (aged(-280), true, "a token of a clock that is a little ahead"),
        (aged(7180), true, "an old token"),
        (aged(7220), false, "a stale token"),
        (aged(-320), false, "a token from the future"),
        (String::new(), false, "no token"),
        (line(""), false, "an empty token"),
        (line("x"), false, "a letter"),
        (line(&site.keys.csrf("bob@pve", now())), false, "another user's token"),
        (line(&Keys::fresh().csrf(user, now())), false, "another secret's token"),
        (line(&good) + &line(&good), false, "two tokens"),
        (line(&good) + &line("x"), false, "a good token and a bad one"),
        (line("x") + &line(&good), false, "a bad token and a good one"),
        (line(&format!("{good}, {good}")), false, "a list of tokens"),
        (line(&good[..good.len() - 1]), false, "a truncated token"),
        (line(&format!("{good}=")), false, "a padded token"),
        (line(&format!("{}:{mac}", time.to_lowercase())), time == time.to_lowercase(), "lower case"),
        (line(mac), false, "a token without time"),
        (format!("X-CSRFPreventionToken: {good}\r\n"), false, "another header"),
        (format!("csrfpreventiontoken:{good}\r\n"), true, "a header in lower case without blank"),
    ];
    let cookie = site.cookie(user);
    all_at_once(&cases, |(headers, good, what)| {
        let attempt = Attempt::write(&site, &gate, &(cookie.clone() + headers));
        if *good { attempt.assert_passes(what) } else { attempt.assert_refused(BAD_CSRF, what) }
    });
}

/// They are forwarded unchanged.
#[test]
fn csrf_tokens_are_forwarded_only_with_tickets() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let token = site.keys.csrf("root@pam", now());
    Attempt::write(&site, &gate, &(site.cookie("root@pam") + &line(&token))).assert_passes("a write");
    assert_eq!(site.daemon.last().all("CSRFPreventionToken"), [token.as_str()]);
    let api_token = format!("Authorization: PVEAPIToken={}\r\n", nodegate_standin::API_TOKEN);
    Attempt::write(&site, &gate, &(api_token + &line(&token))).assert_passes("a write with an API token");
    assert!(site.daemon.last().header("CSRFPreventionToken").is_none());
}

#[test]
fn all_methods_but_get_and_head_write() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let path = "/api2/json/access/users/x";
    all_at_once(&["POST", "PUT", "DELETE"], |method| {
        Attempt::make(&site, &gate, method, path, &cookie).assert_refused(BAD_CSRF, method);
        let headers = cookie.clone() + &site.csrf("root@pam");
        Attempt::make(&site, &gate, method, path, &headers).assert_passes(method);
    });
    for method in ["GET", "HEAD"] {
        Attempt::make(&site, &gate, method, path, &cookie).assert_passes(method);
    }
}

/// An upload is a native form of the browser.
#[test]
fn uploads_are_authenticated_without_csrf_token() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let upload = "/api2/json/nodes/node1/storage/local/upload";
    let cookie = site.cookie("root@pam");
    let cases = [
        ("POST", upload, cookie.as_str(), 400, "an upload must be multipart/form-data with a boundary"),
        ("POST", upload, "", 401, "No ticket"),
        ("POST", upload, "Cookie: PVEAuthCookie=x\r\n", 401, INVALID_PVE),
        ("PUT", upload, cookie.as_str(), 401, BAD_CSRF),
        ("DELETE", upload, cookie.as_str(), 401, BAD_CSRF),
        ("POST", "/api2/json/nodes/node1/storage/local/upload/x", cookie.as_str(), 401, BAD_CSRF),
        ("POST", "/api2/json/nodes/node1/storage/upload", cookie.as_str(), 401, BAD_CSRF),
        ("POST", "/api2/json/nodes/node1/storage/a%2Fb/upload", cookie.as_str(), 401, BAD_CSRF),
        ("POST", "/api2/json/nodes/node1/storage/local%252Fupload", cookie.as_str(), 401, BAD_CSRF),
    ];
    all_at_once(&cases, |(method, path, headers, status, reason)| {
        let reply = gate.request(method, path, headers, b"");
        assert_eq!((reply.status, reply.reason.as_str()), (*status, *reason), "{method} {path}");
    });
    assert!(site.daemon.requests().is_empty());
}

#[test]
fn a_foreign_page_uploads_nothing_with_a_cookie() {
    const UPLOAD: &str = "/api2/json/nodes/node1/storage/local/upload";
    let site = Site::pve();
    let gates = [&[][..], &["cors.origins=*"], &["cors.origins=https://panel.example.com"]]
        .map(|sets| Nodegate::start(&site, sets));
    let cookie = site.cookie("root@pam");
    let ticket = format!("Authorization: PVEAuthCookie={}\r\n", site.ticket("root@pam"));
    let token = format!("Authorization: PVEAPIToken={}\r\n", nodegate_standin::API_TOKEN);
    let (evil, panel) = ("https://evil.example.com", "https://panel.example.com");
    let front = "https://pve.example.com"; // with `Host` rewritten, so that the two differ
    // 400: it may, and then it has no form
    let cases = [
        (&cookie, "", evil, [400, 400, 400]),
        (&cookie, "same-origin", front, [400, 400, 400]),
        (&cookie, "none", front, [400, 400, 400]),
        (&cookie, "cross-site", evil, [403, 403, 403]),
        (&cookie, "same-site", evil, [403, 403, 403]),
        (&cookie, "cross-site", "null", [403, 403, 403]),
        (&cookie, "cross-site", panel, [403, 403, 400]),
        (&cookie, "same-site", panel, [403, 403, 400]),
        (&ticket, "cross-site", evil, [400, 400, 400]),
        (&token, "cross-site", evil, [400, 400, 400]),
    ];
    for (credential, site_header, origin, expected) in cases {
        let fetch =
            if site_header.is_empty() { String::new() } else { format!("Sec-Fetch-Site: {site_header}\r\n") };
        let headers = format!("{credential}Origin: {origin}\r\n{fetch}");
        let got = [0, 1, 2].map(|gate| {
            let reply = gates[gate].request("POST", UPLOAD, &headers, b"");
            if reply.status == 403 {
                let message = reply.json()["message"].as_str().unwrap().to_owned();
                let parts = [site_header, origin, "cors.origins"];
                assert!(parts.iter().all(|part| message.contains(part)), "{message}");
            }
            reply.status
        });
        assert_eq!(got, expected, "{site_header} {origin}");
    }
    let write = Attempt::make(
        &site,
        &gates[0],
        "POST",
        "/api2/json/access/users",
        &(cookie.clone() + &site.csrf("root@pam") + "Sec-Fetch-Site: cross-site\r\n"),
    );
    write.assert_passes("a write with its token");
}
