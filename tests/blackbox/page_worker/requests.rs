//! The worker's request, and the parts of its response that are passed on.

use std::time::{Duration, Instant};

use nodegate_standin::now;

use super::{INDEX, MOBILE, TOMORROW, Worker, answer, lines, page, site, start};
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Outcome, Session, Site};

const ASKED: &str = "User-Agent: Mozilla/5.0 (X11)\r\n";

#[test]
fn the_worker_renders_unreadable_pages() {
    let (site, worker) = (site(), Worker::start(page("<html>the product's own</html>")));
    site.write(MOBILE, "rendered here");
    let gate = start(&site, &worker, &["headers.csp=true", "headers.frames=sameorigin"]);
    let reply = gate.get("/?a=1&debug;b=%20&x=%3Cy%3E", ASKED);
    assert_eq!((reply.status, reply.text().as_str()), (200, "<html>the product's own</html>"));
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    // As a page of nodegate's own: what the worker says of caching and itself goes no further.
    assert_eq!(
        (reply.header("cache-control"), reply.header("pragma"), reply.header("expires")),
        (Some("max-age=0"), None, None)
    );
    assert_eq!(reply.header("x-frame-options"), Some("SAMEORIGIN"));
    assert!(reply.header("content-security-policy").unwrap().starts_with("default-src 'self'"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    let head = worker.head();
    assert!(head.starts_with("GET /?a=1&debug&b=%20&x=%3Cy%3E HTTP/1.1\r\n"), "{head}");
    // The page of a phone is rendered here.
    assert_eq!(gate.get("/?mobile=1", "").text(), "rendered here");
    assert!(worker.heads().is_empty());
    assert!(site.daemon.requests().is_empty());
}

#[test]
fn only_named_cookies_and_headers_go_along() {
    let (site, worker) = (site(), Worker::start(page("x")));
    let gate = start(&site, &worker, &[]);
    let ticket = site.ticket("root@pam");
    let cookies = format!(
        "Cookie: other=1; PVELangCookie=de; PVEAuthCookie={ticket}; session=secret; PVEThemeCookie=proxmox-dark\r\n"
    );
    let more = "Authorization: Basic eDp5\r\nX-Forwarded-For: 192.0.2.9\r\nReferer: https://a/\r\n\
                Accept: */*\r\nAccept-Encoding: identity\r\nPVEClientIP: 192.0.2.9\r\n";
    assert_eq!(gate.get("/", &format!("{cookies}{ASKED}{more}")).status, 200);
    let head = worker.head();
    let encoded = ticket.replace('%', "%25").replace(':', "%3A").replace('@', "%40").replace('+', "%2B");
    let encoded = encoded.replace('/', "%2F").replace('=', "%3D");
    let expected = format!("PVELangCookie=de; PVEThemeCookie=proxmox-dark; PVEAuthCookie={encoded}");
    assert_eq!(lines(&head, "cookie"), [expected]);
    assert_eq!(lines(&head, "user-agent"), ["Mozilla/5.0 (X11)"]);
    assert_eq!(lines(&head, "pveclientip"), ["127.0.0.1"]);
    let names: Vec<_> = head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|it| it.0).collect();
    assert_eq!(names, ["host", "pvedisableproxy", "pveclientip", "cookie", "user-agent", "connection"]);
    eventually("the user is logged", || site.access_log().contains(" - root@pam ["));
    // A ticket that nodegate refuses does not reach the worker; nor do values that no template takes.
    let old = site.keys.ticket("PVE", "root@pam", now() - 7300);
    let long = "a".repeat(300);
    gate.get("/", &format!("Cookie: PVEAuthCookie={old}; PVELangCookie={long}; PVEThemeCookie=a%0d%0ab\r\n"));
    assert_eq!(lines(&worker.head(), "cookie"), ["PVEThemeCookie=a%0D%0Ab"]);
    gate.get("/", &format!("User-Agent: {}\r\n", "a".repeat(2000)));
    let head = worker.head();
    assert!(lines(&head, "cookie").is_empty() && lines(&head, "user-agent").is_empty(), "{head}");
}

#[test]
fn only_verified_link_tickets_reach_the_worker() {
    let site = Site::pmg();
    site.write("/usr/share/javascript/pmg-gui/pmg-index.html.tt", TOMORROW);
    site.write(
        "/etc/nodegate/pmg.toml",
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroute_scope = \"quarantine\"\n",
    );
    let worker = Worker::start(page("x"));
    let gate = start(&site, &worker, &[]);
    let asked = |path: &str, headers: &str| {
        assert_eq!(gate.get(path, headers).status, 200);
        worker.head().lines().next().unwrap().to_owned()
    };
    let escape = |ticket: String| ticket.replace('%', "%25").replace('+', "%2B").replace('/', "%2F");
    let link = escape(site.keys.ticket("PMGQUAR", "joe@example.com", now()));
    let path = format!("/quarantine?ticket={link}&cselect=1");
    assert_eq!(asked(&path, ""), format!("GET {path} HTTP/1.1"));
    // With any cookie a link does not count, and the worker does not see it.
    assert_eq!(asked(&path, "Cookie: a=b\r\n"), "GET /quarantine?cselect=1 HTTP/1.1");
    let forged = path.replace("joe", "eve");
    assert_eq!(asked(&forged, ""), "GET /quarantine?cselect=1 HTTP/1.1");
    assert_eq!(asked("/quarantine?tick%65t=x", ""), "GET /quarantine? HTTP/1.1");
    // The administrator's cookie is worth nothing at a listener for users of the quarantine.
    let admin = site.cookie("root@pam");
    let public = |headers: &str| {
        let reply = Session::tls(gate.listener("public")).request("GET", "/quarantine", headers, b"");
        assert_eq!(reply.status, 200);
        lines(&worker.head(), "cookie")
    };
    assert!(public(&admin).is_empty());
    assert_eq!(public(&format!("Cookie: PMGAuthCookie={link}\r\n")).len(), 1);
    gate.get("/", &admin);
    assert_eq!(lines(&worker.head(), "cookie").len(), 1);
}

#[test]
fn worker_pages_are_compressed_and_answer_head() {
    let (site, worker) = (site(), Worker::start(page(&"a page that is long enough ".repeat(100))));
    let gate = start(&site, &worker, &[]);
    let plain = gate.get("/", "");
    let packed = gate.get("/", "Accept-Encoding: gzip\r\n");
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < plain.body.len());
    let head = gate.request("HEAD", "/", "", b"");
    assert_eq!((head.status, head.header("content-length")), (200, plain.header("content-length")));
    for head in worker.heads() {
        assert!(head.starts_with("GET / ") && lines(&head, "accept-encoding").is_empty(), "{head}");
    }
    assert_eq!(gate.request("POST", "/", "", b"x").status, 405);
    assert!(worker.heads().is_empty());
}

#[test]
fn only_a_whole_html_page_is_passed_on() {
    let (site, worker) = (site(), Worker::start(Vec::new()));
    let gate = start(&site, &worker, &["timeout.answer=1"]);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n";
    let huge = format!("{head}Connection: close\r\n\r\n{}", "a".repeat((4 << 20) + 1));
    let cases: [(Vec<u8>, &str); 12] = [
        (answer("500 at /usr/share/perl5/X.pm line 1", "text/html", "secret"), "it answered 500"),
        (answer("404 Not Found", "text/html", "secret"), "it answered 404"),
        (answer("301 Moved", "text/html", "secret"), "it answered 301"),
        (answer("201 Created", "text/html", "secret"), "it answered 201"),
        (answer("200 OK", "application/json", "{\"data\":\"secret\"}"), "is not text/html"),
        (answer("200 OK", "text/htmlx", "secret"), "is not text/html"),
        (answer("200 OK", "text/html", ""), "is empty"),
        (format!("{head}Content-Length: 4194305\r\n\r\n").into(), "longer than 4194304 bytes"),
        (huge.into(), "reading the body"),
        (format!("{head}Content-Length: 100\r\n\r\nsecret").into(), "reading the body"),
        (format!("{head}Content-Encoding: gzip\r\nContent-Length: 6\r\n\r\nsecret").into(), "is compressed"),
        ("SSH-2.0-secret\r\n\r\n".into(), "Invalid server response"),
    ];
    for (answer, reason) in cases {
        worker.answers(answer);
        let reply = gate.get("/", "");
        let text = reply.text();
        assert_eq!((reply.status, reply.header("content-type")), (500, Some("text/plain;charset=UTF-8")));
        assert!(
            text.contains("'index.html.tpl'") && text.contains("line 2") && text.contains("PERL"),
            "{text}"
        );
        assert!(text.contains(reason), "{reason}: {text}");
        assert!(!text.contains("secret") && !text.contains("/usr/share"), "{text}");
    }
    // A worker that says nothing, and one that says more than it announced.
    worker.answers(Vec::new());
    let before = Instant::now();
    let reply = gate.get("/", "");
    assert!(reply.text().contains("Connection timed out"), "{}", reply.text());
    assert!(before.elapsed() < Duration::from_secs(20));
    worker.answers(format!("{head}Content-Length: 1\r\n\r\nab").into());
    assert_eq!(gate.get("/", "").text(), "a");
}

#[test]
fn pages_never_come_from_the_privileged_daemon() {
    let site = site();
    let gone = format!("backend.unprivileged=127.0.0.1:{}", free_port());
    let gate = Nodegate::start(&site, &[&gone]);
    let reply = gate.get("/", "");
    assert_eq!(reply.status, 500);
    assert!(
        reply.text().contains("the worker does not render it either: Connection refused"),
        "{}",
        reply.text()
    );
    assert!(site.daemon.requests().is_empty());
    // Calls go on as before.
    assert_eq!(gate.get("/api2/json/version", &site.cookie("root@pam")).status, 200);
}

#[test]
fn a_template_that_is_missing_is_the_workers() {
    let (site, worker) = (Site::pve(), Worker::start(page("moved")));
    let gate = start(&site, &worker, &[]);
    for path in ["/", "/?mobile=1", "/?console=kvm&novnc=1"] {
        assert_eq!(gate.get(path, "").text(), "moved", "{path}");
        assert!(worker.head().starts_with(&format!("GET {path} HTTP/1.1\r\n")));
    }
    site.write(INDEX, "here");
    assert_eq!(gate.get("/", "").text(), "here");
    assert!(worker.heads().is_empty());
}

/// A newer product may give its templates a variable that the profile does not declare.
#[test]
fn the_worker_renders_pages_with_undeclared_variables() {
    let newer = "<script>known = '[% lang %]'; novel = '[% novel %]';[% own = 1 %][% own %]</script>";
    let (site, worker) = (site(), Worker::start(page("by the worker")));
    site.write(INDEX, newer);
    site.write(
        MOBILE,
        "[% DEFAULT title = 'none' %][% title %] [% consenttext %][% IF 0; given = 1; END; given %]",
    );
    let gate = start(&site, &worker, &[]);
    assert_eq!(gate.get("/", "").text(), "by the worker");
    assert_eq!(worker.heads().len(), 1);
    assert_eq!(gate.get("/?mobile=1", "").text(), "none ", "defaults, own and empty variables are complete");
    // A worker that does not serve the page takes nothing away.
    worker.answers(answer("404 Not Found", "text/html", "no page"));
    assert_eq!(gate.get("/", "").text(), "<script>known = 'en'; novel = '';1</script>");
    eventually("the gap is logged", || {
        gate.stderr().contains("uses novel, which the profile does not declare")
    });
    let alone = Nodegate::start(&site, &[]);
    assert_eq!(alone.get("/", "").text(), "<script>known = 'en'; novel = '';1</script>");
    let check = Outcome::check(&site, &[]);
    assert_eq!(check.code, 0, "a gap is a warning: {check:?}");
    assert!(
        check.stderr.contains("index.html.tpl uses novel, which the profile does not declare"),
        "{check:?}"
    );
}
