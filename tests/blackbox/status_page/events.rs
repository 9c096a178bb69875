//! The stream of events: its form, its bounds, and its end.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Page, VERSION};
use crate::support::nodegate::{TIMEOUT, eventually};
use crate::support::{Session, Site};

const MAX_STREAMS: usize = 8;

/// One event: its name, and its data.
type Event = (String, String);

/// A client of the events that takes the chunks apart.
struct Events {
    session: Session,
    text: String,
}

impl Events {
    fn open(page: &Page, path: &str) -> Self {
        let mut session = page.stream(path);
        let head = head(&mut session);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("content-type: text/event-stream;charset=utf-8\r\n"), "{head}");
        Self { session, text: String::new() }
    }

    /// A chunk; `None` for the last one.
    fn chunk(&mut self) -> Option<String> {
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.extend(self.session.take(1));
        }
        let size = usize::from_str_radix(String::from_utf8(size).unwrap().trim(), 16).unwrap();
        let chunk = String::from_utf8(self.session.take(size)).unwrap();
        assert_eq!(self.session.take(2), b"\r\n");
        (size > 0).then_some(chunk)
    }

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let lines: Vec<_> = event.lines().collect();
                let name = lines.iter().find_map(|line| line.strip_prefix("event: ")).map(str::to_owned);
                let data: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("data: ")).collect();
                let event = name.map(|name| (name, data.join("\n")));
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk = self.chunk()?;
            self.text.push_str(&chunk);
        }
    }

    fn report(&mut self) -> Value {
        let (name, data) = self.next().unwrap();
        assert_eq!(name, "status");
        serde_json::from_str(&data).unwrap()
    }

    /// Reads until the stream ends with its last chunk.
    fn end(&mut self) {
        while self.next().is_some() {}
        assert!(self.session.is_closed());
    }
}

fn head(session: &mut Session) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(session.take(1));
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn each_event_is_a_current_report() {
    let site = Site::pve();
    let page = Page::new();
    let gate = page.start(&site, &[]);
    let mut events = Events::open(&page, "/status/events");
    let first = events.report();
    assert_eq!((&first["pid"], &first["requests"]["total"]), (&gate.pid().into(), &0.into()));
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    eventually("an event has the request", || events.report()["requests"]["total"] == 1);
}

#[test]
fn the_page_gets_its_markup_too() {
    let site = Site::pve();
    let page = Page::new();
    let _gate = page.start(&site, &[]);
    let mut events = Events::open(&page, "/status/events?page");
    for _ in 0..2 {
        assert_eq!(events.report()["running"], true);
        let (name, data) = events.next().unwrap();
        assert_eq!(name, "page");
        assert!(data.starts_with("<header>") && data.ends_with("</main>"), "{data}");
    }
}

#[test]
fn streams_are_bounded_and_free_their_places() {
    let site = Site::pve();
    let page = Page::new();
    let _gate = page.start(&site, &[]);
    let mut streams: Vec<_> = (0..MAX_STREAMS).map(|_| Events::open(&page, "/status/events")).collect();
    let reply = page.ask("GET", "/status/events", "");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    for path in ["/", "/status.json", "/metrics", "/-/health"] {
        assert_eq!(page.ask("GET", path, "").status, 200, "{path}: scrapers have places of their own");
    }
    streams.pop();
    eventually("the place is free", || page.ask("HEAD", "/status/events", "").status == 200);
    let mut again = Events::open(&page, "/status/events");
    assert_eq!(again.report()["running"], true);
}

/// A client that does not read holds its place, and nothing else.
#[test]
fn deaf_clients_hold_up_no_other() {
    let site = Site::pve();
    let page = Page::new();
    let gate = page.start(&site, &[]);
    let _deaf: Vec<_> = (0..MAX_STREAMS - 1).map(|_| page.stream("/status/events?page")).collect();
    let mut events = Events::open(&page, "/status/events");
    for _ in 0..3 {
        assert_eq!(events.report()["running"], true);
    }
    let began = std::time::Instant::now();
    assert_eq!(gate.stop().code(), Some(0));
    assert!(began.elapsed() < TIMEOUT / 2, "{:?}", began.elapsed());
}

#[test]
fn a_stop_ends_each_stream_cleanly() {
    let site = Site::pve();
    let page = Page::new();
    let gate = page.start(&site, &[]);
    let mut streams: Vec<_> = (0..3).map(|_| Events::open(&page, "/status/events?page")).collect();
    for events in &mut streams {
        assert_eq!(events.report()["running"], true);
    }
    gate.signal(Signal::SIGTERM);
    streams.iter_mut().for_each(Events::end);
    assert_eq!(gate.stop().code(), Some(0));
}

/// The next stream is subject to the new settings.
#[test]
fn a_reload_ends_each_stream_cleanly() {
    let site = Site::pve();
    let page = Page::new();
    let gate = page.start(&site, &[]);
    let mut events = Events::open(&page, "/status/events");
    assert_eq!(events.report()["last_reload"], Value::Null);
    site.write("/etc/nodegate/pve.toml", "[metrics]\nstatus_allow_from = \"192.0.2.1\"\n");
    gate.signal(Signal::SIGHUP);
    events.end();
    assert_eq!(page.ask("GET", "/status/events", "").status, 403);
    assert_eq!(page.ask("GET", "/metrics", "").status, 200);
    site.write("/etc/nodegate/pve.toml", "");
    gate.signal(Signal::SIGHUP);
    eventually("it is allowed again", || page.ask("HEAD", "/status/events", "").status == 200);
    let mut events = Events::open(&page, "/status/events");
    assert_eq!(events.report()["last_reload"]["problems"], serde_json::json!([]));
}
