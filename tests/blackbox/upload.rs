//! Files for a storage: what is taken, what is refused, and that nothing stays behind.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Reply, Session, Site};

const BOUNDARY: &str = "----b0undary";
pub const PATH: &str = "/api2/json/nodes/node1/storage/local/upload";

/// `Content-Type` of the forms here.
pub fn kind() -> String {
    format!("Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n")
}

/// A part with its head as given.
fn part(head: &str, content: &[u8]) -> Vec<u8> {
    [format!("--{BOUNDARY}\r\n{head}\r\n\r\n").as_bytes(), content, b"\r\n"].concat()
}

pub fn field(name: &str, value: &str) -> Vec<u8> {
    part(&format!("Content-Disposition: form-data; name=\"{name}\""), value.as_bytes())
}

pub fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("Content-Disposition: form-data; name=\"filename\"; filename=\"{name}\"");
    part(&format!("{head}\r\nContent-Type: application/octet-stream"), content)
}

pub fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat().as_slice(), format!("--{BOUNDARY}--\r\n").as_bytes()].concat()
}

fn post(gate: &Nodegate, path: &str, headers: &str, body: &[u8]) -> Reply {
    gate.request("POST", path, headers, body)
}

/// Bytes without any order, and with a lot of line ends.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 7 {
            0 => b'\r',
            1 => b'\n',
            2 => b'-',
            _ => state.to_le_bytes()[3],
        }
    };
    (0..size).map(|_| next()).collect()
}

pub fn spool_files(site: &Site) -> usize {
    std::fs::read_dir(site.path("/var/tmp")).unwrap().count()
}

/// The fields that the daemon got, decoded.
pub fn fields(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    text.split('&').map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (decode(k), decode(v))).collect()
}

fn value(body: &[u8], name: &str) -> Option<String> {
    fields(body).into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

#[test]
fn uploads_arrive_with_fields_and_credential() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let content = noise(300_000);
    let body = form(&[field("content", "iso"), file("a b&c.iso", &content), field("checksum", "ü=&;\r\n")]);
    let reply = post(&gate, &format!("{PATH}?note=x%26y"), &(site.cookie("root@pam") + &kind()), &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.json()["data"].as_str().unwrap().starts_with("UPID:"));
    let requests = site.daemon.requests();
    assert_eq!(requests[0].target, "/api2/json/access/permissions?path=%2Fstorage%2Flocal");
    let last = &requests[1];
    assert_eq!((requests.len(), last.method.as_str(), last.target.as_str()), (2, "POST", PATH));
    assert_eq!(last.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(last.header("PVEDisableProxy"), Some("true"));
    assert_eq!(last.header("cookie"), requests[0].header("cookie"));
    assert!(last.upload.as_ref().unwrap() == &content);
    let mut expected: Vec<_> = [("note", "x&y"), ("content", "iso"), ("filename", "a b&c.iso")].to_vec();
    expected.push(("checksum", "ü=&;\r\n"));
    let got = fields(&last.body);
    assert_eq!(got[..4], expected.map_owned());
    let digits = got[4].1.strip_prefix("/var/tmp/pveupload-").unwrap();
    assert_eq!((got[4].0.as_str(), digits.len(), got.len()), ("tmpfilename", 32, 5));
    assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(spool_files(&site), 0);
}

trait MapOwned {
    fn map_owned(self) -> Vec<(String, String)>;
}

impl MapOwned for Vec<(&str, &str)> {
    fn map_owned(self) -> Vec<(String, String)> {
        self.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

#[test]
fn every_client_form_is_read_exactly() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let plain = "Content-Disposition: form-data; name=\"filename\"; filename=\"x.iso\"";
    let kind_first = format!("Content-Type: application/octet-stream\r\n{plain}");
    let unquoted = "content-disposition:form-data; filename=x.iso; name=filename";
    let star = "Content-Disposition: form-data; name=\"filename\"; filename*=utf-8''x%2Eiso";
    let long = format!("{plain}\r\nX-Long: {}", "x".repeat(60_000));
    let almost = format!("\r\n--{BOUNDARY}").into_bytes();
    let cut = almost[..almost.len() - 1].to_vec();
    let contents = [b"\r\n\r\nstart".to_vec(), Vec::new(), b"\r".to_vec(), noise(70_000), cut.repeat(20_000)];
    for head in [plain, &kind_first, unquoted, star, &long] {
        for content in &contents {
            let whole = form(&[part(head, content), field("content", "iso")]);
            let mut short = whole.clone();
            short.truncate(whole.len() - 2); // no line end at the end
            let around = [b"preamble\r\n\r\n".as_slice(), &whole, b"epilogue"].concat();
            for body in [&whole, &short, &around] {
                let reply = post(&gate, PATH, &(site.cookie("root@pam") + &kind()), body);
                assert_eq!(reply.status, 200, "{head} {}: {}", content.len(), reply.text());
                let last = site.daemon.last();
                assert!(last.upload.as_ref().unwrap() == content, "{head} {}", content.len());
                assert_eq!(value(&last.body, "filename").as_deref(), Some("x.iso"));
                assert_eq!(value(&last.body, "content").as_deref(), Some("iso"));
            }
        }
    }
    assert_eq!(spool_files(&site), 0);
}

#[test]
fn chunked_bodies_are_accepted_in_any_split() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let content = noise(5_000);
    let body = form(&[file("x.iso", &content)]);
    for size in [1, 7, 61, 4096] {
        let mut session = gate.connect();
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{}{}\r\n",
            kind(),
            site.cookie("root@pam")
        );
        let mut bytes = head.into_bytes();
        for piece in body.chunks(size) {
            bytes.extend(
                format!("{:x}\r\n", piece.len()).bytes().chain(piece.iter().copied()).chain(*b"\r\n"),
            );
        }
        bytes.extend(b"0\r\nX-Trailer: 1\r\n\r\n");
        session.send(&bytes);
        let reply = session.reply(false);
        assert_eq!(reply.status, 200, "{size}: {}", reply.text());
        assert!(site.daemon.last().upload.unwrap() == content, "{size}");
        // The connection goes on.
        assert_eq!(session.request("GET", "/api2/json/version", &site.cookie("root@pam"), b"").status, 200);
    }
}

#[test]
fn without_the_privilege_nothing_is_read() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let body = form(&[file("x.iso", b"x")]);
    let try_as = |user: &str, storage: &str| {
        let path = PATH.replace("local", storage);
        post(&gate, &path, &(site.cookie(user) + &kind()), &body)
    };
    let reply = try_as("bob@pve", "local");
    let message = "Permission check failed (/storage/local, Datastore.AllocateTemplate)";
    assert_eq!((reply.status, reply.reason.as_str()), (403, message));
    assert!(reply.text().contains(message));
    assert_eq!(try_as("root@pam", "forbidden").status, 403);
    assert!(site.daemon.requests().iter().all(|request| request.method == "GET"));
    assert_eq!(try_as("root@pam", "inherited").status, 200);
    assert_eq!(try_as("root@pam", "a%20b%25").status, 200);
    let asked = site.daemon.requests()[site.daemon.requests().len() - 2].target.clone();
    assert_eq!(asked, "/api2/json/access/permissions?path=%2Fstorage%2Fa%20b%25");
    let token = format!("Authorization: PVEAPIToken={}\r\n", nodegate_standin::API_TOKEN);
    assert_eq!(post(&gate, PATH, &(token.clone() + &kind()), &body).status, 200);
    let wrong = token.replace("5f0c", "0000");
    assert_eq!(post(&gate, PATH, &(wrong + &kind()), &body).status, 401);
    let other = PATH.replace("node1", "another");
    assert_eq!(post(&gate, &other, &(site.cookie("root@pam") + &kind()), &body).status, 200);
    assert_eq!(site.daemon.last().target, other);
    assert_eq!(post(&gate, PATH, &kind(), &body).status, 401);
    assert_eq!(spool_files(&site), 0);
}

#[test]
fn a_client_cannot_name_a_spool_file() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let spool = "/var/tmp/pveupload-0123456789abcdef0123456789abcdef";
    site.write(spool, "other");
    let good = form(&[field("content", "iso"), file("x.iso", b"x")]);
    for name in
        ["tmpfilename", "%74mpfilename", "tmp%66ilename", "a=1&tmpfilename", "a=1;tmpfilename", "TMPFILENAME"]
    {
        let reply =
            post(&gate, &format!("{PATH}?{name}={spool}"), &(site.cookie("root@pam") + &kind()), &good);
        assert_eq!(reply.status, 400, "{name}: {}", reply.text());
        let bare = post(&gate, &format!("{PATH}?{name}={spool}"), &site.cookie("root@pam"), b"");
        assert_eq!(bare.status, 400, "{name}");
    }
    let names = [
        "\"tmpfilename\"",
        "tmpfilename",
        "\"tmp\\filename\"",
        "\"tmp%66ilename\"",
        "\"TmpFileName\"",
        "\"\"",
    ];
    for name in names {
        let smuggled = part(&format!("Content-Disposition: form-data; name={name}"), spool.as_bytes());
        let star = part("Content-Disposition: form-data; name*=utf-8''tmpfilename", spool.as_bytes());
        for parts in [
            [smuggled.clone(), file("x.iso", b"x")],
            [file("x.iso", b"x"), smuggled],
            [star, file("x.iso", b"x")],
        ] {
            let reply = post(&gate, PATH, &(site.cookie("root@pam") + &kind()), &form(&parts));
            assert_eq!(reply.status, 400, "{name}: {}", reply.text());
        }
    }
    let urlencoded = format!("content=iso&filename=x&tmpfilename={spool}");
    for kind in
        ["", "Content-Type: application/x-www-form-urlencoded\r\n", "Content-Type: application/json\r\n"]
    {
        let reply = post(&gate, PATH, &(site.cookie("root@pam") + kind), urlencoded.as_bytes());
        assert_eq!((reply.status, reply.text().contains("multipart/form-data")), (400, true), "{kind}");
    }
    assert!(site.daemon.requests().iter().all(|request| request.method == "GET"));
    assert_eq!(std::fs::read(site.path(spool)).unwrap(), b"other");
    assert_eq!(spool_files(&site), 1);
}

/// They leave no file.
#[test]
fn malformed_forms_are_rejected_with_a_reason() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let big = "v".repeat(70_000);
    let fields = (0..40).map(|number| field(&format!("f{number}"), "x")).collect::<Vec<_>>();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no file", form(&[field("content", "iso")])),
        ("ends early", file("x.iso", &noise(10_000))),
        ("twice", form(&[field("content", "iso"), file("x.iso", b"x"), field("content", "vztmpl")])),
        ("twice", form(&[file("x.iso", b"x"), file("y.iso", b"y")])),
        ("bytes in the field", form(&[file("x.iso", b"x"), field("content", &big)])),
        ("parts", form(&fields)),
        ("name", form(&[part("Content-Disposition: form-data; name=\"filename\"", b"x")])),
        ("name", form(&[file("", b"x")])),
        ("Content-Disposition", form(&[part("X-Nothing: 1", b"x")])),
        ("no file", format!("--{BOUNDARY}").repeat(3).into_bytes()),
        ("not a multipart form", noise(3_000_000)),
        (
            "not a multipart form",
            [b"--".as_slice(), BOUNDARY.as_bytes(), b"\r\nX: ", &vec![b'x'; 3_000_000]].concat(),
        ),
        ("behind its end", [form(&[file("x.iso", b"x")]), noise(3_000_000)].concat()),
    ];
    for (words, body) in cases {
        let reply = post(&gate, PATH, &(site.cookie("root@pam") + &kind()), &body);
        assert_eq!(reply.status, 400, "{words}: {}", reply.text());
        let text = reply.text();
        assert!(text.contains(words) || text.contains("malformed"), "{words}: {text}");
        assert_eq!(spool_files(&site), 0, "{words}");
    }
    for kind in ["multipart/form-data", "multipart/mixed; boundary=x", "multipart/form-data; boundary="] {
        let headers = site.cookie("root@pam") + &format!("Content-Type: {kind}\r\n");
        assert_eq!(post(&gate, PATH, &headers, b"x").status, 400, "{kind}");
    }
    assert!(site.daemon.requests().iter().all(|request| request.method == "GET"));
}

#[test]
fn a_file_the_daemon_rejects_is_removed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.answer=1"]);
    let body = form(&[file("x.iso", &noise(2_000_000))]);
    let to = |path: &str| post(&gate, path, &(site.cookie("root@pam") + &kind()), &body);
    let reply = to(&PATH.replace("local", "broken"));
    assert_eq!((reply.status, reply.reason.as_str()), (500, "storage 'broken' is broken"));
    assert_eq!(spool_files(&site), 0);
    let reply = to(&PATH.replace("local", "broken").replace("json", "extjs"));
    assert_eq!((reply.status, reply.json()["success"].as_i64()), (200, Some(0)));
    assert_eq!(spool_files(&site), 0);
    let html = PATH.replace("local", "broken").replace("json", "htmljs");
    let reply = to(&html);
    assert!(reply.status == 200 && reply.text().contains("&quot;success&quot;:0"), "{}", reply.text());
    assert_eq!(spool_files(&site), 0, "a refusal that is escaped for HTML");
    for format in ["html", "png", "spiceconfig"] {
        let (asked, reply) = (site.daemon.requests().len(), to(&PATH.replace("json", format)));
        assert_eq!((reply.status, site.daemon.requests().len()), (501, asked), "{format}: {}", reply.text());
    }
    assert_eq!(to(&(PATH.replace("local", "slow") + "?ms=5000")).status, 596);
    assert_eq!(spool_files(&site), 0);
    // A file that the daemon has taken stays where it is.
    for format in ["json", "extjs", "htmljs"] {
        assert_eq!(to(&PATH.replace("local", "kept").replace("json", format)).status, 200);
    }
    assert_eq!(spool_files(&site), 3);
    let down = Nodegate::start(&site, &["backend.address=127.0.0.1:1"]);
    let reply = post(&down, PATH, &(site.cookie("root@pam") + &kind()), &body);
    assert_eq!(reply.status, 595, "{}", reply.text());
    assert_eq!(spool_files(&site), 3);
}

/// An upload of which the beginning has been sent, and is on disk.
fn begun(site: &Site, gate: &Nodegate) -> Session {
    let mut session = gate.connect();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n{}{}\r\n",
        kind(),
        site.cookie("root@pam")
    );
    session.send([head.as_bytes(), &file("x.iso", &noise(2_000_000))].concat());
    eventually("a spool file", || spool_files(site) == 1);
    session
}

#[test]
fn a_disconnected_client_leaves_no_file() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    drop(begun(&site, &gate));
    eventually("the spool file is gone", || spool_files(&site) == 0);
    assert!(site.daemon.requests().iter().all(|request| request.method == "GET"));
}

/// The client leaves while the daemon answers.
#[test]
fn a_late_disconnect_changes_no_upload() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    let body = form(&[file("x.iso", b"x")]);
    let path = PATH.replace("local", "slow") + "?ms=700";
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
    session.send(
        [head.as_bytes(), kind().as_bytes(), site.cookie("root@pam").as_bytes(), b"\r\n", &body].concat(),
    );
    eventually("the daemon is asked", || {
        site.daemon.requests().iter().any(|request| request.method == "POST")
    });
    assert_eq!(spool_files(&site), 1);
    drop(session);
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(spool_files(&site), 1, "the daemon took it");
}

#[test]
fn a_stop_during_an_upload_leaves_nothing() {
    let site = Site::pve();
    let mut gate = Nodegate::start(&site, &["timeout.stop=1"]);
    let _session = begun(&site, &gate);
    let before = Instant::now();
    gate.signal(Signal::SIGTERM);
    assert!(gate.wait().success());
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(spool_files(&site), 0);
}

#[test]
fn a_stop_lets_fast_uploads_finish() {
    let site = Site::pve();
    let mut gate = Nodegate::start(&site, &[]);
    let body = form(&[file("x.iso", &noise(1_000_000))]);
    let mut session = gate.connect();
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
    session.send([head.as_bytes(), kind().as_bytes(), site.cookie("root@pam").as_bytes(), b"\r\n"].concat());
    session.send(&body[..900_000]);
    eventually("a spool file", || spool_files(&site) == 1);
    gate.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    session.send(&body[900_000..]);
    assert_eq!(session.reply(false).status, 200);
    assert!(gate.wait().success());
    assert!(site.daemon.last().upload.is_some());
}

#[test]
fn an_oversized_upload_is_rejected_before_reading() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for expect in ["", "Expect: 100-continue\r\n"] {
        let mut session = gate.connect();
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000000000\r\n{expect}{}{}\r\n",
            kind(),
            site.cookie("root@pam")
        );
        session.send(&head);
        let reply = session.reply(false);
        assert_eq!(reply.status, 413, "{}", reply.text());
        assert!(reply.text().contains("900000000000000 are needed"));
    }
    assert_eq!(spool_files(&site), 0);
    // A profile may set a limit, which holds for chunked bodies as well.
    let gate = with_rules(&site, "limit = 3000000");
    let body = form(&[file("x.iso", &noise(4_000_000))]);
    assert_eq!(post(&gate, PATH, &(site.cookie("root@pam") + &kind()), &body).status, 413);
    let mut session = gate.connect();
    let headers = kind() + &site.cookie("root@pam");
    session.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"));
    session.send([format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat());
    assert_eq!(session.reply(false).status, 413);
    assert_eq!(spool_files(&site), 0);
    let small = form(&[file("x.iso", b"x")]);
    assert_eq!(post(&gate, PATH, &(site.cookie("root@pam") + &kind()), &small).status, 200);
}

/// The client waits for it; a rejected upload gets none.
#[test]
fn an_accepted_upload_gets_100_continue() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let body = form(&[file("x.iso", &noise(100_000))]);
    let ask = |user: &str| {
        let mut session = gate.connect();
        session.send(format!(
            "POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nExpect: 100-continue\r\n{}{}\r\n",
            body.len(),
            kind(),
            site.cookie(user)
        ));
        session
    };
    let mut session = ask("root@pam");
    assert_eq!(session.reply(false).status, 100);
    session.send(&body);
    assert_eq!(session.reply(false).status, 200);
    assert_eq!(ask("bob@pve").reply(false).status, 403);
}

/// The built-in profile with more rules for uploads.
fn with_rules(site: &Site, rules: &str) -> Nodegate {
    let profile = include_str!("../../profiles/pve.toml");
    site.write("/mine.toml", profile.replace("[product.upload]", &format!("[product.upload]\n{rules}")));
    site.write("/pve.routes", include_str!("../../profiles/pve.routes"));
    Nodegate::start_profile(site, site.path("/mine.toml").to_str().unwrap(), &[])
}

#[test]
fn a_stalled_client_gets_an_error() {
    let site = Site::pve();
    let gate = with_rules(&site, "idle_timeout = 1");
    let mut session = begun(&site, &gate);
    // A pause that is short enough does no harm.
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(600));
        session.send(noise(1000));
    }
    let before = Instant::now();
    let reply = session.reply(false);
    assert_eq!((reply.status, before.elapsed() < Duration::from_secs(4)), (408, true));
    eventually("the spool file is gone", || spool_files(&site) == 0);
}

#[test]
fn an_unread_body_costs_no_memory() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let most = || gate.kilobytes("VmHWM");
    assert_eq!(gate.get("/api2/json/version", &site.cookie("root@pam")).status, 200);
    let before = most();
    let body = form(&[file("x.iso", &vec![0; 50_000_000])]);
    for (user, path) in [("bob@pve", PATH), ("root@pam", "/api2/json/cluster/options")] {
        let headers = site.cookie(user) + &kind() + &site.csrf(user);
        let reply = post(&gate, path, &headers, &body);
        assert!([403, 413].contains(&reply.status), "{}", reply.text());
    }
    assert!(most() - before < 16 << 10, "{before} kB -> {} kB", most());
}

#[test]
fn check_reports_impossible_uploads() {
    let site = Site::pve();
    std::fs::remove_dir(site.path("/var/tmp")).unwrap();
    let reported = crate::support::Outcome::ask(&site, &["check", "pve"]).stderr;
    assert!(reported.contains("no upload is possible"), "{reported}");
}
