//! Nothing that a client writes can pass for something that nodegate wrote.

use nodegate_standin::Recorded;

use crate::support::{Nodegate, Session, Site, all_at_once};

const ECHO: &str = "/api2/json/standin/echo";

/// The head as it came over the wire, checked line by line: every name is one that nodegate writes, once.
fn assert_rebuilt(site: &Site, seen: &Recorded, what: &str) {
    let text = String::from_utf8_lossy(&seen.head).into_owned();
    let lines: Vec<_> = text.trim_end().split("\r\n").skip(1).collect();
    let mut names: Vec<_> = lines.iter().map(|line| line.split(':').next().unwrap().to_lowercase()).collect();
    names.sort();
    let mut once = names.clone();
    once.dedup();
    assert_eq!(names, once, "{what}: {text}");
    let known = [
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "csrfpreventiontoken",
        "host",
        "pveclientip",
        "pvedisableproxy",
    ];
    for name in &names {
        assert!(known.contains(&name.as_str()), "{what}: {name} was sent on: {text}");
    }
    assert_eq!(seen.all("pveclientip"), ["127.0.0.1"], "{what}");
    assert_eq!(seen.all("pvedisableproxy"), ["true"], "{what}");
    assert_eq!(seen.all("connection"), ["close"], "{what}");
    let escaped = |text: &str| text.replace(':', "%3A").replace('@', "%40").replace('=', "%3D");
    let ticket = site.ticket("root@pam");
    let own = escaped(ticket.split("::").next().unwrap().rsplit_once(':').unwrap().0);
    let cookies = seen.all("cookie");
    assert!(cookies.len() == 1 && cookies[0].starts_with(&format!("PVEAuthCookie={own}")), "{what}: {text}");
    assert!(!text.contains("6.6.6.6") && !text.contains("evil"), "{what}: {text}");
}

/// A header that only nodegate may set does not get through in any spelling.
#[test]
fn no_client_spelling_reaches_the_daemon() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let spellings = [
        "PVEClientIP: 6.6.6.6",
        "pveclientip: 6.6.6.6\r\nPVECLIENTIP: 6.6.6.6",
        "PVEClientIP:6.6.6.6\r\nPVEDisableProxy:\tfalse",
        "PVEDisableProxy: false\r\npvedisableproxy: evil",
        "PVE_Client_IP: 6.6.6.6\r\nPVE-ClientIP: 6.6.6.6\r\nPVE-Client-IP: 6.6.6.6",
        "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6",
        "PVEClientIP:\r\nPVEDisableProxy:",
        "Connection: PVEClientIP, PVEDisableProxy, Cookie, Host\r\nPVEClientIP: 6.6.6.6",
        "Connection: close, pveclientip",
        "Connection: keep-alive, cookie, authorization, csrfpreventiontoken",
        "Authorization: PVEAPIToken=evil@pam!t=0",
        "Authorization: Basic evil\r\nAuthorization: PVEAuthCookie=evil",
        "Proxy-Authorization: evil\r\nWWW-Authenticate: evil\r\nCookie2: evil",
        "Cookie: evil=1; other=2\r\nCookie: PVEAuthCookie=evil",
        "Cookie: PVEAuthCookie=evil; PVEAuthCookie=evil",
        "Cookie: PVE%41uthCookie=evil; %50VEAuthCookie=evil",
        "cookie: a=1\r\nCOOKIE: PVEAuthCookie=evil\r\nCookie: PMGAuthCookie=evil",
        "TE: trailers, evil\r\nTrailer: PVEClientIP\r\nUpgrade: evil\r\nKeep-Alive: evil",
        "Proxy-Connection: keep-alive\r\nVia: evil\r\nReferer: evil\r\nUser-Agent: evil\r\nOrigin: evil",
        "Range: bytes=0-0\r\nIf-None-Match: \"evil\"\r\nIf-Modified-Since: evil\r\nAccept: evil",
        "pvestreamfile: /etc/evil\r\nLocation: evil\r\nSet-Cookie: evil=1",
        "X: a\u{e9}\r\nPVEClientIP: 6.6.6.6\u{a0}",
    ];
    for spelling in spellings {
        site.daemon.clear();
        let headers = format!("{}{spelling}\r\n", site.cookie("root@pam"));
        assert_eq!(gate.get(ECHO, &headers).status, 200, "{spelling}");
        assert_rebuilt(&site, &site.daemon.last(), spelling);
        let headers = format!("{}{headers}", site.csrf("root@pam"));
        assert_eq!(gate.request("PUT", ECHO, &headers, b"a=1").status, 200, "{spelling}");
        assert_rebuilt(&site, &site.daemon.last(), spelling);
    }
}

#[test]
fn ambiguous_heads_are_not_forwarded() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let heads = [
        "X: a\r\n PVEClientIP: 6.6.6.6",
        "X: a\r\n\tPVEClientIP: 6.6.6.6",
        "PVEClientIP : 6.6.6.6",
        "PVEClientIP\t: 6.6.6.6",
        " PVEClientIP: 6.6.6.6",
        "X: a\rPVEClientIP: 6.6.6.6",
        "X: a\0\r\nPVEClientIP: 6.6.6.6",
        "PVE\u{e9}ClientIP: 6.6.6.6",
        "PVEClientIP",
        ": 6.6.6.6",
        "Content-Length: 3\r\nContent-Length: 7",
        "Content-Length: 3, 7",
        "Content-Length: -1",
        "Content-Length: +3",
        "Content-Length: 0x3",
        "Content-Length: 3 3",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \u{b}chunked",
    ];
    all_at_once(&heads, |head| {
        let token = site.csrf("root@pam");
        let mut session = gate.connect();
        let start = format!("POST {ECHO} HTTP/1.1\r\nHost: node1\r\n{cookie}{token}");
        session.send(format!("{start}{head}\r\n\r\n3\r\na=1\r\n0\r\n\r\nGET {ECHO} HTTP/1.1\r\n\r\n"));
        let reply = session.reply(false);
        assert_eq!(reply.status, 400, "{head:?}");
        assert!(session.is_closed(), "{head:?}");
    });
    assert!(site.daemon.requests().is_empty(), "{:?}", site.daemon.requests());
}

/// One request with a body, and a second one that a careless reader would find inside it.
fn smuggle(site: &Site, gate: &Nodegate, framing: &str, body: &str) -> Vec<Recorded> {
    site.daemon.clear();
    let cookie = site.cookie("root@pam");
    let token = site.csrf("root@pam");
    let mut session = gate.connect();
    session
        .send(format!("POST {ECHO}?first HTTP/1.1\r\nHost: node1\r\n{cookie}{token}{framing}\r\n\r\n{body}"));
    let _ = session.reply(false);
    session.send(format!("GET {ECHO}?last HTTP/1.1\r\nHost: node1\r\nConnection: close\r\n{cookie}\r\n"));
    let _ = session.rest();
    site.daemon.requests()
}

#[test]
fn a_request_inside_a_body_stays_a_body() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let inner = format!("GET {ECHO}?inner HTTP/1.1\r\nHost: x\r\nPVEClientIP: 6.6.6.6\r\n\r\n");
    let chunk = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let cases = [
        (format!("Content-Length: {}", inner.len()), inner.clone(), inner.clone()),
        ("Transfer-Encoding: chunked".into(), chunk.clone(), inner.clone()),
        ("transfer-encoding:CHUNKED".into(), chunk.clone(), inner.clone()),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked".into(), chunk.clone(), inner.clone()),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4".into(), chunk.clone(), inner.clone()),
    ];
    for (framing, body, expected) in cases {
        let seen = smuggle(&site, &gate, &framing, &body);
        assert_eq!(seen[0].text(), expected, "{framing}");
        assert_eq!(seen[0].all("content-length"), [expected.len().to_string()], "{framing}");
        assert!(seen[0].header("transfer-encoding").is_none(), "{framing}");
        // With both framings hyper closes behind the answer.
        assert!(seen[1..].iter().all(|request| request.target.ends_with("?last")), "{framing}");
        assert_eq!(seen.len(), if framing.contains("Length: 4") { 1 } else { 2 }, "{framing}");
        for request in &seen {
            assert_eq!(request.all("pveclientip"), ["127.0.0.1"], "{framing}");
        }
    }
}

#[test]
fn trailers_of_a_chunked_body_are_dropped() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let framing = "Transfer-Encoding: chunked\r\nTrailer: PVEClientIP, Cookie";
    let body = "3;evil=1\r\na=1\r\n0\r\nPVEClientIP: 6.6.6.6\r\nCookie: PVEAuthCookie=evil\r\n\r\n";
    let seen = smuggle(&site, &gate, framing, body);
    assert_eq!(seen[0].body, b"a=1");
    assert_rebuilt(&site, &seen[0], "trailers");
}

#[test]
fn an_absolute_target_is_forwarded_as_a_path() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    for target in [format!("https://node1:8006{ECHO}?a=1"), format!("http://NODE1:8006{ECHO}?a=1")] {
        assert_eq!(session.request("GET", &target, &cookie, b"").status, 200, "{target}");
        assert_eq!(site.daemon.last().target, format!("{ECHO}?a=1"));
        assert_rebuilt(&site, &site.daemon.last(), &target);
    }
}

#[test]
fn a_path_cannot_end_the_request_line() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let path = "/api2/json/standin/echo%20HTTP/1.1%3f%23?x=%0d%0aPVEClientIP:%206.6.6.6%00";
    assert_eq!(gate.get(path, &cookie).status, 501);
    let head = String::from_utf8(site.daemon.last().head).unwrap();
    let line = "GET /api2/json/standin/echo%20HTTP/1.1%3F%23?x=%0d%0aPVEClientIP:%206.6.6.6%00 HTTP/1.1\r\n";
    assert!(head.starts_with(line), "{head}");
    for path in ["/api2/json/x%0d%0ay", "/api2/json/x%00y", "/api2/json/x%0ay", "/api2/json/%ff"] {
        assert_eq!(gate.get(path, &cookie).status, 400, "{path}");
    }
    assert_eq!(site.daemon.requests().len(), 1);
}

#[test]
fn the_daemons_proxy_headers_are_removed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let reply = gate.get("/api2/json/standin/cookies?file=", &cookie);
    let cookies: Vec<_> =
        reply.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).collect();
    let values: Vec<_> = cookies.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["first=1; path=/", "second=2; path=/; secure"]);
    assert_eq!(reply.header("location"), Some("/x"));
    assert!(reply.header("pvestreamfile").is_none());
    for named in ["/api2/json/standin/streamfile?path=/etc/passwd", "/api2/json/standin/cookies"] {
        let reply = gate.get(named, &cookie);
        assert_eq!(reply.status, 500, "{named}");
        assert!(reply.header("pvestreamfile").is_none() && !reply.text().contains("canary"), "{reply:?}");
    }
    let chunked = gate.get("/api2/json/standin/chunked", &cookie);
    assert!(chunked.header("trailer").is_none(), "{chunked:?}");
    assert_eq!(chunked.json()["data"], "chunked");
}

#[test]
fn hop_by_hop_headers_are_removed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let raw = "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: evil\r\nKeep-Alive: evil\r\nUpgrade: evil\r\n\
        Proxy-Connection: evil\r\nTE: evil\r\nServer: evil\r\nDate: evil\r\n\
        X-End: stays\r\nContent-Length: 2\r\n\r\nok";
    let reply = raw_answer(&gate, &cookie, raw);
    let text = format!("{:?}", reply.headers);
    assert!(!text.contains("evil"), "{text}");
    assert_eq!((reply.header("x-end"), reply.text().as_str()), (Some("stays"), "ok"));
    assert_eq!(reply.header("server"), Some("pve-api-daemon/3.0"));
}

fn raw_answer(gate: &Nodegate, cookie: &str, raw: &str) -> crate::support::Reply {
    let escaped = percent_encoding::utf8_percent_encode(raw, percent_encoding::NON_ALPHANUMERIC);
    gate.get(&format!("/api2/json/standin/raw?text={escaped}"), cookie)
}

#[test]
fn ambiguous_responses_have_one_reading() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let both = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n{chunks}");
    let reply = raw_answer(&gate, &cookie, &both);
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    let differing = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(raw_answer(&gate, &cookie, differing).status, 599);
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\n";
    assert_eq!(raw_answer(&gate, &cookie, switching).status, 599);
    let informed =
        "HTTP/1.1 103 Early Hints\r\nLink: evil\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(raw_answer(&gate, &cookie, informed).text(), "ok");
}

#[test]
fn a_plain_connection_reaches_no_daemon() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = Session::plain(gate.local());
    let reply = session.request("GET", ECHO, &site.cookie("root@pam"), b"");
    assert_eq!(reply.status, 301);
    assert!(site.daemon.requests().is_empty());
}
