//! A listener that serves a part of the product: the quarantine of the Mail Gateway, and nothing else of it.

use std::sync::Mutex;

use nodegate_standin::now;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::start;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Reply, Session, Site, all_at_once};

const PUBLIC: &str =
    "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroute_scope = \"quarantine\"\n";
const MAIL: &str = "user@example.com";
const LOGIN: &str = "/api2/json/access/ticket";

struct Public {
    site: Site,
    gate: Nodegate,
}

impl Public {
    fn start(sets: &[&str]) -> Self {
        let site = Site::pmg();
        site.write(
            "/usr/share/javascript/pmg-gui/pmg-index.html.tt",
            "user [% username %] token [% token %]",
        );
        site.write("/usr/share/pve-xtermjs/index.html.tpl", "console");
        site.write("/usr/share/javascript/pmg-gui/js/pmgmanagerlib.js", "// 1\n");
        site.write("/usr/share/pmg-docs/index.html", "docs");
        let gate = start(&site, PUBLIC, sets);
        Self { site, gate }
    }

    fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        Session::tls(self.gate.listener("public")).request(method, path, headers, body.as_bytes())
    }

    fn link(&self) -> String {
        self.site.keys.ticket("PMGQUAR", MAIL, now())
    }

    fn cookie(&self) -> String {
        format!("Cookie: PMGAuthCookie={}\r\n", self.link())
    }

    /// The login requests that the daemon got.
    fn logins(&self) -> usize {
        self.site.daemon.requests().iter().filter(|request| request.path().contains("/access/ticket")).count()
    }
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Its files are served as well.
#[test]
fn a_quarantine_listener_serves_only_its_page() {
    let public = Public::start(&[]);
    let cases = [
        ("/quarantine", 200, 200),
        ("/quarantine?console=shell&xtermjs=1", 404, 200),
        ("/pve2/js/pmgmanagerlib.js", 200, 200),
        ("/pve2/js/missing.js", 404, 404),
        ("/", 404, 200),
        ("/xtermjs/index.html.tpl", 404, 200),
        ("/pmg-docs/index.html", 404, 200),
        ("/pve2/js/../../pmg-docs/index.html", 404, 200),
        ("/-/health", 404, 200),
        ("/nothing", 404, 404),
    ];
    for (path, there, elsewhere) in cases {
        assert_eq!(public.request("GET", path, "", "").status, there, "{path}");
        assert_eq!(public.gate.get(path, "").status, elsewhere, "{path} at the listener for all");
    }
}

#[test]
fn only_quarantine_users_get_the_page() {
    let public = Public::start(&[]);
    let page = |headers: &str, path: &str| public.request("GET", path, headers, "").text();
    let user = format!("{MAIL}@quarantine");
    assert!(page(&public.cookie(), "/quarantine").contains(&format!("user {user}")));
    let by_link = format!("/quarantine?ticket={}", escape(&public.link()));
    assert!(page("", &by_link).contains(&format!("user {user}")));
    let admin = public.site.cookie("root@pam");
    assert_eq!(page(&admin, "/quarantine"), "user  token null");
    assert!(public.gate.get("/quarantine", &admin).text().contains("user root@pam"));
}

/// The others are rejected with a reason.
#[test]
fn only_quarantine_calls_are_answered() {
    let public = Public::start(&[]);
    let (own, admin) = (public.cookie(), public.site.cookie("root@pam"));
    let version = public.request("GET", "/api2/json/version", &own, "");
    assert_eq!(version.status, 200, "{}", version.text());
    let refused = [
        ("GET", "/api2/json/nodes"),
        ("GET", "/api2/json/nodes/mg1/subscription"),
        ("POST", "/api2/json/nodes/localhost/subscription"),
        ("PUT", "/api2/json/nodes/localhost/subscription"),
        ("GET", "/api2/json/quarantine/spamusers"),
        ("PUT", "/api2/json/access/password"),
        ("POST", "/api2/json/access/vncticket"),
        ("POST", "/api2/json/access/oidc/login"),
        ("GET", "/api2/json/nodes/mg1/vncwebsocket"),
    ];
    for (method, path) in refused {
        for headers in [own.as_str(), admin.as_str(), ""] {
            let reply = public.request(method, path, headers, "");
            let call = path.trim_start_matches("/api2/json");
            let reason = format!("{method} {call} is not served at this address and port");
            assert_eq!((reply.status, reply.reason.as_str()), (403, reason.as_str()), "{path}");
            assert_eq!(reply.json()["message"], reason);
        }
    }
    let extjs = public.request("GET", "/api2/extjs/nodes", &own, "");
    assert_eq!((extjs.status, &extjs.json()["status"]), (200, &serde_json::json!(403)));
}

/// They stay valid at the other listeners.
#[test]
fn administrator_tickets_fail_at_the_quarantine() {
    let public = Public::start(&[]);
    let admin = public.site.cookie("root@pam");
    let reply = public.request("GET", "/api2/json/version", &admin, "");
    assert_eq!((reply.status, reply.reason.as_str()), (401, "Authentication failed!"));
    assert_eq!(public.gate.get("/api2/json/version", &admin).status, 200);
    let reply = public.request("GET", "/api2/json/version", &admin, "");
    assert_eq!(reply.status, 401, "known from a moment ago as well");
}

#[test]
fn only_quarantine_users_log_in_there() {
    let public = Public::start(&[]);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let json = "Content-Type: application/json\r\n";
    let own =
        format!("username={}&password={}", escape(&format!("{MAIL}@quarantine")), escape(&public.link()));
    let mut good = vec![(form, own.clone())];
    let reported = serde_json::json!({"username": format!("{MAIL}@quarantine"), "password": public.link()});
    good.push((json, reported.to_string()));
    for (number, (kind, body)) in good.iter().enumerate() {
        let reply = public.request("POST", LOGIN, kind, body);
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
        assert!(reply.json()["data"]["ticket"].as_str().unwrap().starts_with("PMGQUAR:"));
        assert_eq!(public.logins(), number + 1);
    }
    let bad = [
        (form, "username=root%40pam&password=secret".to_owned(), ""),
        (form, "username=root%40pam&realm=quarantine&password=secret".to_owned(), ""),
        (form, format!("{own}&username=root%40pam"), ""),
        (form, format!("{own};username=root%40pam"), ""),
        (form, "username=root%40pam=x%40quarantine&password=secret".to_owned(), ""),
        (form, own.clone(), "?username=root%40pam"),
        (form, String::new(), ""),
        (json, r#"{"username":"root@pam","password":"secret"}"#.to_owned(), ""),
        (json, r#"{"username":"a@quarantine","username":"root@pam"}"#.to_owned(), ""),
        (json, r#"{"username":"a@quarantine","x":"&username=root@pam&y="}"#.to_owned(), ""),
        ("", own.clone(), ""),
        ("Content-Type: multipart/form-data; boundary=x\r\n", own, ""),
    ];
    for (kind, body, query) in bad {
        let reply = public.request("POST", &format!("{LOGIN}{query}"), kind, &body);
        let reason = "only users of the realm quarantine may log in at this address and port";
        assert_eq!((reply.status, reply.reason.as_str()), (403, reason), "{body}");
    }
    assert_eq!(public.logins(), 2, "the daemon was asked about none of them");
}

/// Every method of the Mail Gateway 9.1 whose permissions name the role `quser`.
const METHODS_OF_THE_ROLE: [(&str, &str); 18] = [
    ("GET", "/nodes/localhost/subscription"),
    ("GET", "/quarantine/spam"),
    ("GET", "/quarantine/content"),
    ("POST", "/quarantine/content"),
    ("GET", "/quarantine/listattachments"),
    ("GET", "/quarantine/download"),
    ("GET", "/quarantine/welcomelist"),
    ("POST", "/quarantine/welcomelist"),
    ("DELETE", "/quarantine/welcomelist"),
    ("GET", "/quarantine/blocklist"),
    ("POST", "/quarantine/blocklist"),
    ("DELETE", "/quarantine/blocklist"),
    ("GET", "/quarantine/whitelist"),
    ("POST", "/quarantine/whitelist"),
    ("DELETE", "/quarantine/whitelist"),
    ("GET", "/quarantine/blacklist"),
    ("POST", "/quarantine/blacklist"),
    ("DELETE", "/quarantine/blacklist"),
];

#[test]
fn every_method_of_the_quarantine_role_is_served() {
    let public = Public::start(&[]);
    let csrf = public.site.csrf(&format!("{MAIL}@quarantine"));
    let headers = public.cookie() + &csrf;
    for (method, path) in METHODS_OF_THE_ROLE {
        let reply = public.request(method, &format!("/api2/json{path}"), &headers, "");
        assert_ne!(reply.status, 403, "{method} {path}: {}", reply.reason);
        let asked = public.site.daemon.last();
        assert_eq!((asked.method.as_str(), asked.path()), (method, format!("/api2/json{path}").as_str()));
    }
    let reply = public.request("GET", "/api2/json/nodes/localhost/subscription", &headers, "");
    assert_eq!((reply.status, &reply.json()["data"]["status"]), (200, &serde_json::json!("notfound")));
}

#[test]
fn a_login_without_realm_is_the_quarantines() {
    let public = Public::start(&[]);
    public.site.write("/etc/pmg/realms.conf", "oidc: corp.example\n\tissuer-url https://id.example\n");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let login = |user: &str, more: &str| {
        let body = format!("username={}&password={}{more}", escape(user), escape(&public.link()));
        public.request("POST", LOGIN, form, &body)
    };
    // As the desktop GUI posts it.
    let reply = login(MAIL, "");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["data"]["username"], format!("{MAIL}@quarantine"));
    assert_eq!(login(MAIL, "&realm=quarantine").status, 200);
    let asked = public.logins();
    let reason = "only users of the realm quarantine may log in at this address and port";
    for (user, more) in [
        ("root@pam", ""),
        ("root@PAM", ""),
        ("root@pam\n", ""),
        ("root@pam ", ""),
        ("admin@pmg", ""),
        ("someone@corp.example", ""),
        ("someone@corp.example", "&realm=quarantine"),
        (MAIL, "&realm=pam"),
        (MAIL, "&realm="),
        (MAIL, "&realm=corp.example"),
    ] {
        let reply = login(user, more);
        assert_eq!((reply.status, reply.reason.as_str()), (403, reason), "{user:?} {more}");
    }
    // A realm that is made counts from then on, and where realms are unknown only the full name does.
    assert_eq!(login("a@new.example", "").status, 401);
    public.site.write("/etc/pmg/realms.conf", "ldap: new.example\n");
    assert_eq!(login("a@new.example", "").status, 403);
    public.site.write("/etc/pmg/realms.conf", b"\xff");
    let unknown = login(MAIL, "");
    assert_eq!((unknown.status, unknown.reason.as_str()), (500, "the list of realms cannot be read"));
    assert_eq!(login("root@pam", "").status, 403);
    assert_eq!(login(&format!("{MAIL}@quarantine"), "").status, 200);
    assert_eq!(public.logins(), asked + 2, "the daemon was asked about those two alone");
}

#[test]
fn quarantine_links_are_limited_per_address() {
    let proxy = ["real_ip.header=X-Real-IP", "real_ip.allow_from=127.0.0.1"];
    let public = Public::start(&proxy);
    let ask = |from: &str| {
        let headers = format!("X-Real-IP: {from}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
        public.request("POST", "/api2/json/quarantine/sendlink", &headers, "mail=user%40example.com")
    };
    let statuses = Mutex::new(Vec::new());
    all_at_once(&[(); 9], |()| statuses.lock().unwrap().push(ask("192.0.2.1").status));
    let asked = statuses.into_inner().unwrap();
    assert_eq!(asked.iter().filter(|status| **status == 429).count(), 4, "{asked:?}");
    let refused = ask("192.0.2.1");
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() <= 60);
    assert!(refused.reason.starts_with("this call may be made 5 times a minute"), "{}", refused.reason);
    assert_ne!(ask("192.0.2.2").status, 429, "another client");
    let calls = public.site.daemon.requests();
    assert_eq!(calls.iter().filter(|request| request.path().ends_with("/sendlink")).count(), 6);
    eventually("it is in the log", || public.site.access_log().contains("\" 429 "));
}
