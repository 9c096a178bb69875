//! Every kind of request takes a worker of its own daemon, and gives it back at the head of the answer.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use nodegate_standin::{Config, Daemon, Product};

use super::held::{Queues, begin, held};
use super::site;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Reply, Session, Site};
use crate::upload;

/// Needs root.
const JOURNAL: &str = "/api2/json/nodes/node1/journal";
/// Do not.
const VERSION: &str = "/api2/json/version";
const TASKS: &str = "/api2/json/cluster/tasks";
const CONSOLE: &str = "/api2/json/nodes/node1/qemu/100/vncproxy";
const BACKENDS: [&str; 2] = ["daemon", "unprivileged"];

/// Two daemons with one worker each.
struct Machine {
    site: Site,
    unprivileged: Daemon,
    queues: Queues,
    gate: Nodegate,
    cookie: String,
}

impl Machine {
    fn start() -> Self {
        let (site, queues) = (site(0), Queues::new());
        let keys = Arc::clone(&site.keys);
        let unprivileged = Daemon::start(Config { keys, ..Config::new(Product::Pve) });
        let address = format!("backend.unprivileged={}", unprivileged.address());
        let sets = ["backend.workers=1", "backend.unprivileged_workers=1", &address, &queues.setting()];
        let gate = Nodegate::start(&site, &sets);
        let cookie = site.cookie("root@pam");
        Self { site, unprivileged, queues, gate, cookie }
    }

    /// Busy workers and waiting calls of both daemons, that with root first.
    fn figures(&self) -> [(usize, usize); 2] {
        BACKENDS.map(|backend| {
            let sample = |name| self.queues.sample_of(backend, name);
            (sample("workers_busy"), sample("requests_waiting"))
        })
    }

    fn wait_for(&self, figures: [(usize, usize); 2]) {
        let mut last = self.figures();
        let reached = || {
            last = self.figures();
            last == figures
        };
        eventually(&format!("the figures are {figures:?}"), reached);
    }

    fn get(&self, path: &str) -> Reply {
        self.gate.get(path, &self.cookie)
    }

    fn write_headers(&self) -> String {
        format!("{}{}", self.cookie, self.site.csrf("root@pam"))
    }
}

/// Calls that need root and calls that do not wait in two queues.
#[test]
fn each_daemon_has_its_own_queue() {
    let machine = Machine::start();
    let mut first = begin(&machine.gate, &held(JOURNAL, "root", 1), &machine.cookie);
    machine.wait_for([(1, 0), (0, 0)]);
    let mut second = begin(&machine.gate, JOURNAL, &machine.cookie);
    machine.wait_for([(1, 1), (0, 0)]);
    assert_eq!(machine.get(VERSION).status, 200, "the other daemon is free");
    let mut third = begin(&machine.gate, &held(TASKS, "other", 2), &machine.cookie);
    let mut fourth = begin(&machine.gate, TASKS, &machine.cookie);
    machine.wait_for([(1, 1), (1, 1)]);
    machine.site.daemon.release("root");
    assert_eq!((first.reply(false).status, second.reply(false).status), (200, 200));
    machine.wait_for([(0, 0), (1, 1)]);
    machine.unprivileged.release("other");
    assert_eq!((third.reply(false).status, fourth.reply(false).status), (200, 200));
    machine.wait_for([(0, 0); 2]);
}

#[test]
fn a_console_ticket_takes_a_root_worker() {
    let machine = Machine::start();
    let mut busy = begin(&machine.gate, &held(JOURNAL, "root", 1), &machine.cookie);
    machine.wait_for([(1, 0), (0, 0)]);
    let mut console = machine.gate.connect();
    let headers = machine.write_headers();
    console.send(format!("POST {CONSOLE} HTTP/1.1\r\nHost: node1\r\n{headers}Content-Length: 0\r\n\r\n"));
    machine.wait_for([(1, 1), (0, 0)]);
    machine.site.daemon.release("root");
    let reply = console.reply(false);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.json()["data"]["ticket"].is_string(), "{}", reply.text());
    assert_eq!(busy.reply(false).status, 200);
    machine.wait_for([(0, 0); 2]);
}

/// A stream and a file of known length, which their clients do not read, and an answer that ends after its head.
#[test]
fn downloads_hold_no_worker_while_they_run() {
    const SIZE: usize = 50_000_000;
    let machine = Machine::start();
    let mut unread: Vec<Session> = Vec::new();
    for path in [format!("{JOURNAL}?size={SIZE}"), format!("/api2/json/standin/big?size={SIZE}")] {
        let mut session = begin(&machine.gate, &path, &machine.cookie);
        eventually("the head comes", || session.has_reply());
        unread.push(session);
        machine.wait_for([(0, 0); 2]);
        assert_eq!((machine.get(VERSION).status, machine.get(JOURNAL).status), (200, 200));
    }
    let path = "/api2/json/standin/head-only-then-hang?size=100000";
    let mut hanging = begin(&machine.gate, path, &machine.cookie);
    eventually("the head comes", || hanging.has_reply());
    machine.wait_for([(0, 0); 2]);
    assert_eq!((machine.get(VERSION).status, machine.get(JOURNAL).status), (200, 200));
    for mut session in unread {
        assert_eq!(session.reply(false).body.len(), SIZE);
    }
}

/// The daemon names the file, and its worker is free before the first byte is sent.
#[test]
fn named_files_hold_no_worker() {
    const SIZE: usize = 20_000_000;
    let machine = Machine::start();
    machine.site.write("/tmp/restored", vec![b'x'; SIZE]);
    let path = "/api2/json/nodes/node1/storage/local/file-restore/download?path=/tmp/restored";
    let mut session = begin(&machine.gate, path, &machine.cookie);
    eventually("the head comes", || session.has_reply());
    machine.wait_for([(0, 0); 2]);
    assert_eq!(machine.get(JOURNAL).status, 200);
    let reply = session.reply(false);
    assert_eq!((reply.status, reply.body.len()), (200, SIZE));
}

/// It needs a worker to verify the permission and to hand the file over, and none while its body comes.
#[test]
fn an_upload_holds_no_worker_while_it_arrives() {
    let machine = Machine::start();
    let form = upload::form(&[
        upload::field("content", "iso"),
        upload::field("standin-hold", "upload"),
        upload::file("a.iso", &upload::noise(300_000)),
    ]);
    let headers = format!("{}{}", machine.write_headers(), upload::kind());
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: node1:8006\r\nContent-Length: {}\r\n{headers}\r\n",
        upload::PATH,
        form.len()
    );
    let (first, rest) = form.split_at(100_000);
    let mut session = machine.gate.connect();
    session.send([head.as_bytes(), first].concat());
    let permissions = || [&machine.site.daemon, &machine.unprivileged].map(|daemon| daemon.requests().len());
    eventually("the permission is verified", || permissions().iter().sum::<usize>() == 1);
    machine.wait_for([(0, 0); 2]);
    assert_eq!((machine.get(VERSION).status, machine.get(JOURNAL).status), (200, 200));
    session.send(rest);
    machine.wait_for([(1, 0), (0, 0)]);
    let mut waiting = begin(&machine.gate, JOURNAL, &machine.cookie);
    machine.wait_for([(1, 1), (0, 0)]);
    machine.site.daemon.release("upload");
    let reply = session.reply(false);
    assert_eq!((reply.status, waiting.reply(false).status), (200, 200), "{}", reply.text());
    assert_eq!(upload::spool_files(&machine.site), 0);
    machine.wait_for([(0, 0); 2]);
}

/// Reads the head of a request.
fn accept(worker: &TcpListener) -> TcpStream {
    loop {
        let (mut stream, _) = worker.accept().unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
            head.push(byte[0]);
        }
        if !head.is_empty() {
            return stream;
        }
    }
}

#[test]
fn a_page_takes_an_unprivileged_worker() {
    const PAGE: &str = "<html>the product's own</html>";
    let (site, queues) = (site(0), Queues::new());
    site.write("/usr/share/pve-manager/index.html.tpl", "<html>\n[% PERL %] print 1; [% END %]\n</html>\n");
    let worker = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("backend.unprivileged={}", worker.local_addr().unwrap());
    let sets = ["backend.workers=1", "backend.unprivileged_workers=1", &address, &queues.setting()];
    let gate = Nodegate::start(&site, &sets);
    let waiting = || {
        let sample = |name| queues.sample_of("unprivileged", name);
        (sample("workers_busy"), sample("requests_waiting"))
    };
    let mut first = begin(&gate, "/", "");
    let mut answering = accept(&worker);
    let mut second = begin(&gate, "/", "");
    eventually("the second one waits", || waiting() == (1, 1));
    assert_eq!(gate.get(JOURNAL, &site.cookie("root@pam")).status, 200, "the other daemon is free");
    let head = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n",
        PAGE.len()
    );
    answering.write_all(head.as_bytes()).unwrap();
    // The worker gets the next request before it has sent the page.
    let mut next = accept(&worker);
    eventually("the first one needs it no more", || waiting() == (1, 0));
    next.write_all(format!("{head}{PAGE}").as_bytes()).unwrap();
    answering.write_all(PAGE.as_bytes()).unwrap();
    for session in [&mut first, &mut second] {
        let reply = session.reply(false);
        assert_eq!((reply.status, reply.text().as_str()), (200, PAGE));
    }
    eventually("both workers are free", || waiting() == (0, 0));
}
