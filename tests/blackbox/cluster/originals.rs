//! Nodes that run the original, in a cluster with nodegate. Their client takes chunks apart, and their proxy passes on
//! `Transfer-Encoding` with what is left.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use nodegate_standin::{Config, Daemon, Product, content};

use crate::support::original::{ANY_EVENT, FROM_NODE, OriginalNode};
use crate::support::{Nodegate, Reply, Site};

const SIZE: usize = 300_000;

/// A node whose nodegate others ask, and its daemon, which compresses where it is asked to.
struct Node {
    site: Site,
    _daemon: Daemon,
    gate: Nodegate,
}

impl Node {
    fn start(product: Product, sets: &[&str]) -> Self {
        let site = Site::of(product);
        let config = Config {
            keys: site.keys.clone(),
            root: site.root().to_owned(),
            gzip: true,
            ..Config::new(product)
        };
        site.write("/usr/share/pve-manager/index.html.tpl", "<title>[% nodename %]</title>".repeat(1000));
        let daemon = Daemon::start(config);
        let backend = format!("backend.address={}", daemon.address());
        let gate = Nodegate::start(&site, &[&[backend.as_str()], sets].concat());
        Self { site, _daemon: daemon, gate }
    }

    /// A request of the original proxy itself, to see what comes over the wire.
    fn request_from_original(&self, path: &str, more: &str) -> Reply {
        let headers = format!("{}{ANY_EVENT}{FROM_NODE}{more}", self.site.cookie("root@pam"));
        let mut session = self.gate.connect();
        let reply = session.request("GET", path, &headers, b"");
        assert!(session.is_closed(), "{path}");
        reply
    }
}

/// The calls that the route table of a product flags as downloads.
fn downloads(profile: &str) -> Vec<String> {
    let table = nodegate::testing::config::built_in_file(&format!("{profile}.routes")).unwrap();
    let flagged = |line: &&str| {
        line.split_whitespace().skip(1).any(|word| {
            word.split_once(':').is_some_and(|(method, flags)| method == "GET" && flags.contains('d'))
        })
    };
    table.lines().filter(flagged).map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// A call with its parameters, of which the stand-in makes `SIZE` bytes.
fn target(template: &str) -> String {
    let filled = template
        .replace("{node}", "node1")
        .replace("{storage}", "local")
        .replace("{upid}", "UPID:node1:00000001:00000001:6B024400:qmstart:100:root@pam:")
        .replace("{filename}", "a.tgz");
    assert!(!filled.contains('{'), "no value for {template}");
    format!("/api2/json{filled}?size={SIZE}&download=1&path=/tmp/file")
}

fn plain(reply: &Reply) -> Vec<u8> {
    if reply.header("content-encoding").is_none() {
        return reply.body.clone();
    }
    let mut command = Command::new("gzip");
    let mut gunzip = command.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, packed) = (gunzip.stdin.take().unwrap(), reply.body.clone());
    let writing = std::thread::spawn(move || stdin.write_all(&packed).unwrap());
    let output = gunzip.wait_with_output().unwrap();
    writing.join().unwrap();
    output.stdout
}

/// Every download of a product through both kinds of another node, plain and compressed.
fn every_download_arrives(product: Product, count: usize) {
    let node = Node::start(product, &[]);
    let cookie = node.site.cookie("root@pam");
    node.site.write("/tmp/file", content(SIZE));
    let others = [OriginalNode::standin(node.gate.local()), OriginalNode::any_event(node.gate.local())];
    let flagged = downloads(node.site.profile());
    assert_eq!(flagged.len(), count, "{flagged:?}");
    for template in flagged {
        let path = target(&template);
        for coding in ["", "Accept-Encoding: gzip\r\n", "Accept-Encoding: zstd, gzip\r\n"] {
            let direct = node.request_from_original(&path, coding);
            assert_eq!(direct.header("transfer-encoding"), None, "{template}");
            for other in &others {
                let reply = other.get(&path, &format!("{cookie}{coding}"));
                assert_eq!(reply.status, 200, "{template}: {}", reply.reason);
                assert!(plain(&reply) == content(SIZE), "{template} {coding}");
            }
        }
    }
}

#[test]
fn every_download_of_proxmox_ve_arrives() {
    every_download_arrives(Product::Pve, 3);
}

#[test]
fn every_download_of_the_mail_gateway_arrives() {
    every_download_arrives(Product::Pmg, 4);
}

#[test]
fn responses_without_length_end_with_the_connection() {
    let node = Node::start(Product::Pve, &["compression.api=1"]);
    node.site.write("/usr/share/pve-manager/js/app.js", "let a = 'b';\n".repeat(20_000));
    let pipe = node.site.path("/tmp/pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writer = std::thread::spawn(move || {
        let mut pipe = std::fs::OpenOptions::new().write(true).open(pipe).unwrap();
        pipe.write_all(&content(SIZE)).unwrap();
    });
    let file_restore = "/api2/json/nodes/node1/storage/local/file-restore/download?path=/tmp/pipe";
    let reply = node.request_from_original(file_restore, "");
    writer.join().unwrap();
    assert!(reply.body == content(SIZE));
    assert_eq!((reply.header("transfer-encoding"), reply.header("content-length")), (None, None));
    for (path, more) in [
        ("/api2/json/standin/until-close?size=70000", ""),
        ("/api2/json/standin/until-close?size=70000&type=text/plain", "Accept-Encoding: zstd\r\n"),
        ("/api2/json/standin/chunked", ""),
        ("/api2/json/standin/big?size=3000000&type=text/plain", "Accept-Encoding: zstd\r\n"),
        ("/api2/json/standin/big?size=3000000", ""),
        ("/api2/json/cluster/resources", "Accept-Encoding: gzip\r\n"),
        ("/pve2/js/app.js", "Accept-Encoding: gzip\r\n"),
        ("/", "Accept-Encoding: gzip\r\n"),
    ] {
        let reply = node.request_from_original(path, more);
        assert_eq!((reply.status, reply.header("transfer-encoding")), (200, None), "{path}");
        assert_eq!(reply.header("connection"), Some("close"), "{path}");
        assert!(!reply.body.is_empty(), "{path}");
    }
}

#[test]
fn http_1_0_clients_see_connection_close() {
    let node = Node::start(Product::Pve, &[]);
    let cookie = node.site.cookie("root@pam");
    for (path, size) in [("until-close", 70_000), ("big", 70_000)] {
        let mut session = node.gate.connect();
        session.send(format!(
            "GET /api2/json/standin/{path}?size={size} HTTP/1.0\r\nConnection: keep-alive\r\n{cookie}\r\n"
        ));
        let reply = session.reply(false);
        assert!(reply.body == content(size) && reply.header("transfer-encoding").is_none());
        let expected = if path == "big" { "keep-alive" } else { "close" };
        assert_eq!(reply.header("connection"), Some(expected), "{path}");
    }
}

#[test]
fn nodegates_keep_their_connection_after_a_stream() {
    let cluster = super::machines::Cluster::pve(2);
    let first = cluster.start(1, &["workers=1"]);
    let second = cluster.start(2, &[]);
    let site = &cluster.nodes[0].site;
    let mut session = first.connect();
    for _ in 0..3 {
        let path = "/api2/json/nodes/node2/standin/until-close?size=200000";
        let reply = session.request("GET", path, &site.cookie("root@pam"), b"");
        assert!(reply.status == 200 && reply.body == content(200_000), "{}", reply.text());
    }
    let reported = crate::status::report(&cluster.nodes[1].site, &second, "pve");
    assert_eq!(reported["connections"]["total"], 1);
}

#[test]
fn an_interrupted_stream_is_an_error_for_clients() {
    let node = Node::start(Product::Pve, &["timeout.answer_unprivileged=1"]);
    let headers = format!("{}{ANY_EVENT}{FROM_NODE}", node.site.cookie("root@pam"));
    for (path, is_whole) in [("drip?pieces=2&ms=100", true), ("drip?pieces=2&ms=3000", false)] {
        let mut session = node.gate.connect();
        session.send(format!("GET /api2/json/standin/{path} HTTP/1.1\r\nHost: node1\r\n{headers}\r\n"));
        let answer = session.rest();
        assert!(answer.starts_with(b"HTTP/1.") && answer.len() > 10);
        assert_eq!(session.was_closed_cleanly(), is_whole, "{path}");
    }
}

#[test]
fn a_broken_plaintext_stream_is_reset() {
    let site = Site::pve();
    let clear = "[[listener]]\nname = \"clear\"\naddress = \"127.0.0.1\"\nport = 0\ntls = false\n";
    site.write("/etc/nodegate/pve.toml", clear);
    let gate = Nodegate::start(&site, &["timeout.answer_unprivileged=1"]);
    for (path, is_whole) in [("drip?pieces=2&ms=100", true), ("drip?pieces=2&ms=3000", false)] {
        let mut stream = TcpStream::connect(gate.listener("clear")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let cookie = site.cookie("root@pam");
        write!(stream, "GET /api2/json/standin/{path} HTTP/1.0\r\nHost: node1\r\n{cookie}\r\n").unwrap();
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer).map_err(|error| error.kind());
        assert!(answer.starts_with(b"HTTP/1."), "{path}");
        let expected = if is_whole { None } else { Some(ErrorKind::ConnectionReset) };
        assert_eq!(ended.err(), expected, "{path}");
    }
}

/// A browser shows the progress of a task log and of a file, and keeps the connection for the next.
#[test]
fn a_length_that_is_known_reaches_browsers() {
    let node = Node::start(Product::Pve, &["compression.api=1"]);
    node.site.write("/tmp/file", content(SIZE));
    let cookie = node.site.cookie("root@pam");
    let mut session = node.gate.connect();
    for template in
        ["/nodes/{node}/tasks/{upid}/log", "/nodes/{node}/storage/{storage}/file-restore/download"]
    {
        for coding in ["", "Accept-Encoding: zstd, br\r\n"] {
            let reply = session.request("GET", &target(template), &format!("{cookie}{coding}"), b"");
            assert_eq!(
                reply.header("content-length"),
                Some(SIZE.to_string().as_str()),
                "{template} {coding}"
            );
            assert!(reply.body == content(SIZE));
        }
    }
    let journal = session.request("GET", &target("/nodes/{node}/journal"), &cookie, b"");
    assert_eq!(journal.header("transfer-encoding"), Some("chunked"));
    assert!(journal.body == content(SIZE));
}

#[test]
fn daemon_files_are_cacheable_and_data_not() {
    for product in [Product::Pve, Product::Pmg] {
        let node = Node::start(product, &[]);
        node.site.write("/tmp/file", content(SIZE));
        let cookie = node.site.cookie("root@pam");
        let is_file = |template: &str| !template.ends_with("/journal");
        for template in downloads(node.site.profile()) {
            let reply = node.gate.get(&target(&template), &cookie);
            let reported = (reply.header("cache-control"), reply.header("pragma"));
            let expected = if is_file(&template) { (None, None) } else { (Some("max-age=0"), None) };
            assert_eq!(reported, expected, "{template}");
        }
        let log = "/api2/json/nodes/node1/tasks/UPID:node1:1:1:1:a:b:root@pam:/log";
        let reply = node.gate.get(log, &cookie);
        assert_eq!(
            (reply.status, reply.header("cache-control")),
            (200, Some("max-age=0")),
            "{}",
            reply.text()
        );
    }
}

/// curl is the client of a node that runs the original.
#[test]
fn curl_reads_the_journal_through_an_original() {
    let node = Node::start(Product::Pve, &[]);
    let other = OriginalNode::any_event(node.gate.local());
    let cookie = node.site.cookie("root@pam");
    let url = format!("http://{}{}", other.address(), target("/nodes/{node}/journal"));
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--compressed", "--max-time", "60", "--noproxy", "*"]);
    let got = curl.args(["-H", cookie.trim_end(), &url]).output().unwrap();
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert!(got.stdout == content(SIZE));
}
