//! Reports of a page that cannot be rendered: to the client, `check`, the log, and monitors.

use std::time::{Duration, Instant};

use super::{INDEX, MOBILE, TOMORROW, Worker, answer, lines, page, site, start};
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Outcome, Site};
use nix::sys::signal::Signal;

const REMEDY: &str =
    "install nodegate-pve, whose worker renders it with the product's own code, or report it";

#[test]
fn without_a_worker_the_page_gives_instructions() {
    let site = site();
    let gate = Nodegate::start(&site, &[]);
    let reply = gate.get("/", "");
    assert_eq!((reply.status, reply.header("content-type")), (500, Some("text/plain;charset=UTF-8")));
    let text = reply.text();
    for part in ["template 'index.html.tpl'", "line 2", "'PERL'", REMEDY] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("/usr/share"), "{text}");
    assert!(reply.reason.contains("line 2"), "{}", reply.reason);
    // The log has it once, however often a client requests the page.
    for _ in 0..5 {
        assert_eq!(gate.get("/", "").status, 500);
    }
    let log = gate.stderr();
    let reported: Vec<_> = log.lines().filter(|line| line.contains("page not rendered")).collect();
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(
        reported[0].contains("ERROR") && reported[0].contains("usr/share/pve-manager/index.html.tpl"),
        "{reported:?}"
    );
}

#[test]
fn check_fails_for_a_page_without_renderer() {
    let site = site();
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let path = site.path(INDEX);
    let line = outcome.stderr.lines().find(|line| line.contains("page / cannot be rendered")).unwrap();
    assert!(line.starts_with("profile: product.page: page / "), "{line}");
    assert!(line.contains(&format!("{}: line 2: ", path.display())) && line.contains("PERL"), "{line}");
    assert!(line.ends_with(REMEDY), "{line}");
    let (code, json) = Outcome::check_json(&site, &[]);
    let problem = &json["problems"][0];
    assert_eq!((code, problem["key"].as_str()), (1, Some("product.page")), "{json}");
    site.write(INDEX, "good");
    assert_eq!(Outcome::check(&site, &[]).code, 0);
}

#[test]
fn check_requests_failing_pages_from_the_worker() {
    let (site, worker) = (site(), Worker::start(page("rendered")));
    let line = |code: i32| {
        let outcome = Outcome::check(&site, &[&worker.setting()]);
        assert_eq!(outcome.code, code, "{outcome:?}");
        outcome.stderr.lines().find(|line| line.contains("page / cannot be rendered")).unwrap().to_owned()
    };
    let rendered = line(0);
    assert!(rendered.contains("product.page: warning: "), "{rendered}");
    assert!(rendered.ends_with(&format!("; the worker at {} renders it", worker.address)), "{rendered}");
    let head = worker.head();
    assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
    assert_eq!(lines(&head, "host"), ["localhost"]);
    assert!(lines(&head, "cookie").is_empty(), "{head}");
    for (given, cause) in [
        (answer("500 no such template", "text/plain", ""), "it answered 500 no such template"),
        (answer("200 OK", "application/json", "{}"), "its answer is not text/html"),
        (page(""), "its answer is empty"),
        (b"rubbish\r\n\r\n".to_vec(), "Invalid server response"),
    ] {
        worker.answers(given);
        let failed = line(1);
        assert!(failed.contains(" does not render GET / either: ") && failed.contains(cause), "{failed}");
        assert!(!failed.contains("warning"), "{failed}");
    }
    // Each page of a template is requested, with the query that leads to it.
    worker.heads();
    worker.answers(page("rendered"));
    site.write(INDEX, "good");
    site.write(MOBILE, TOMORROW);
    let outcome = Outcome::check(&site, &[&worker.setting()]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(worker.head().starts_with("GET /?mobile=1 HTTP/1.1\r\n"));
    // A worker that is not needed is not started by a request.
    site.write(MOBILE, "good");
    assert_eq!(Outcome::check(&site, &[&worker.setting()]).code, 0);
    assert!(worker.heads().is_empty());
}

#[test]
fn check_fails_for_an_unreachable_worker() {
    let site = site();
    let line = |worker: &str| {
        let outcome = Outcome::check(&site, &[&format!("backend.unprivileged={worker}")]);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        outcome.stderr.lines().find(|line| line.contains("page / cannot be rendered")).unwrap().to_owned()
    };
    let gone = format!("127.0.0.1:{}", free_port());
    let refused = line(&gone);
    let cause =
        format!("; the worker at {gone} takes no connection: Connection refused; it starts with nodegate");
    assert!(refused.contains(&cause), "{refused}");
    // It takes connections, and never answers: as a socket of systemd whose worker does not start. All pages together
    // wait for it once.
    site.write(MOBILE, TOMORROW);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let asked = Instant::now();
    let timed_out = line(&silent.local_addr().unwrap().to_string());
    assert!(timed_out.contains(" does not answer GET / within 10 s"), "{timed_out}");
    assert!(asked.elapsed() < Duration::from_secs(19), "{:?}", asked.elapsed());
}

#[test]
fn a_missing_template_counts_where_its_package_is() {
    let site = Site::pve();
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for page in ["page / cannot", "page / (mobile) cannot", "page / (console, novnc) cannot"] {
        let line = outcome.stderr.lines().find(|line| line.contains(page)).unwrap();
        assert!(line.contains("warning: ") && line.ends_with("; its package is not installed"), "{line}");
    }
    // The package is there, and its template is not: it was moved, and phones get no page.
    site.write("/usr/share/pve-yew-mobile-gui/index.html", "moved");
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("product.page: page / (mobile) cannot be rendered: "), "{outcome:?}");
    let worker = Worker::start(page("x"));
    let outcome = Outcome::check(&site, &[&worker.setting()]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    // A page that is not installed is not in the worker either.
    assert!(worker.head().starts_with("GET /?mobile=1 "));
}

#[test]
fn a_template_of_two_pages_is_named_once() {
    let site = Site::pmg();
    site.write("/usr/share/javascript/pmg-gui/pmg-index.html.tt", TOMORROW);
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let reported: Vec<_> = outcome.stderr.lines().filter(|line| line.contains("line 2")).collect();
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(reported[0].contains("page /, /quarantine cannot be rendered"), "{reported:?}");
}

#[test]
fn start_and_reload_log_pages_that_fail() {
    let site = site();
    let gate = Nodegate::start(&site, &[]);
    let reported = |page: &str| {
        let wanted = format!("product.page: page {page} cannot be rendered");
        gate.stderr().lines().filter(|line| line.contains("ERROR") && line.contains(&wanted)).count()
    };
    assert_eq!((reported("/"), reported("/ (mobile)")), (1, 0), "{}", gate.stderr());
    assert_eq!(gate.get("/-/ready", "").text(), "ready\npage / cannot be rendered\n");
    assert_eq!(gate.get("/-/ready", "").status, 200);
    // A page that fails keeps no reload from counting.
    site.write(MOBILE, TOMORROW);
    site.write("/etc/nodegate/pve.toml", "[timeout]\nidle = 33\n");
    gate.signal(Signal::SIGHUP);
    eventually("it is reloaded", || gate.stderr().contains("reloaded changed=\"timeout.idle\""));
    assert_eq!((reported("/"), reported("/ (mobile)")), (2, 1), "{}", gate.stderr());
    eventually("monitors hear of both", || {
        let text = gate.get("/-/ready", "").text();
        text == "ready\npage / cannot be rendered\npage / (mobile) cannot be rendered\n"
    });
    site.write(MOBILE, "good");
    site.write(INDEX, "good");
    eventually("all pages are good", || gate.get("/-/ready", "").text() == "ready\n");
}

#[test]
fn a_worker_makes_failing_pages_a_warning() {
    let (site, worker) = (site(), Worker::start(page("x")));
    let gate = start(&site, &worker, &[]);
    let log = gate.stderr();
    let line = log.lines().find(|line| line.contains("page / cannot be rendered")).unwrap();
    assert!(line.contains("WARN") && line.contains("is asked for it"), "{line}");
    assert_eq!(gate.get("/-/ready", "").text(), "ready\n");
    let gone = format!("backend.unprivileged=127.0.0.1:{}", free_port());
    let gate = Nodegate::start(&site, &[&gone]);
    assert_eq!(gate.get("/-/ready", "").text(), "ready\npage / cannot be rendered\n");
}

#[test]
fn a_command_requests_every_page() {
    let site = site();
    for path in [MOBILE, "/usr/share/novnc-pve/index.html.tpl", "/usr/share/pve-xtermjs/index.html.tpl"] {
        site.write(path, "good");
    }
    let gate = Nodegate::start(&site, &[]);
    let port = format!("listen.port={}", gate.port());
    let ask = || Outcome::ask(&site, &["--set", &port, "--set", "listen.address=127.0.0.1", "pages", "pve"]);
    let asked = ask();
    assert_eq!(asked.code, 1, "{asked:?}");
    let lines: Vec<_> = asked.stdout.lines().collect();
    assert!(lines[0].starts_with("failed /: 500 the template 'index.html.tpl' of this page"), "{asked:?}");
    assert!(lines[0].ends_with(REMEDY), "{asked:?}");
    assert_eq!(lines[1..], ["ok /?console=1&novnc=1", "ok /?console=1&xtermjs=1", "ok /?mobile=1"]);
    site.write(INDEX, "good");
    let asked = ask();
    assert_eq!((asked.code, asked.stdout.lines().next()), (0, Some("ok /")));
    gate.stop();
    let asked = ask();
    assert_eq!(asked.code, 3, "{asked:?}");
    assert_eq!(asked.stdout.lines().filter(|line| line.starts_with("failed /")).count(), 4);
}

#[test]
fn pages_names_why_a_listener_answers_none() {
    let site = Site::pve();
    for (sets, obstacle) in [
        (vec!["acl.deny_from=127.0.0.0/8"], "its access list denies this machine"),
        (
            vec!["listen.proxy_protocol=true", "real_ip.allow_from=192.0.2.1"],
            "only connections with a PROXY header",
        ),
        (vec!["listen.address=fe80::1%lo"], "pages cannot be requested at the link-local address fe80::1%lo"),
    ] {
        let sets: Vec<_> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let asked = Outcome::ask(&site, &[&sets[..], &["pages", "pve"]].concat());
        assert_eq!((asked.code, asked.stdout.as_str()), (1, ""), "{asked:?}");
        assert!(asked.stderr.contains(obstacle), "{asked:?}");
    }
    let asked = Outcome::ask(&site, &["pages", "spice"]);
    assert_eq!((asked.code, asked.stdout.as_str()), (0, ""), "{asked:?}");
}
