//! Answers of the API that are packed on their way, read by real decoders.

use std::io::Write as _;
use std::process::{Command, Stdio};

use nodegate_standin::content;

use crate::support::{Nodegate, Site};

const BIG: &str = "/api2/json/standin/big?type=application/json&size=";

/// The output of the command of that name for it.
fn unzstd(packed: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new("zstd").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let packed = packed.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&packed).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// nodegate compresses by itself and asks the daemon for no coding.
#[test]
fn zstd_clients_get_zstd() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["compression.api=true"]);
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    for (accepted, ours, asked) in [
        ("gzip, deflate, br, zstd", true, None),
        ("zstd", true, None),
        ("zstd;q=0.5, gzip;q=0.9", false, Some("gzip")),
        ("zstd;q=0, gzip", false, Some("gzip")),
        ("gzip, deflate, br", false, Some("gzip")),
        ("identity, zstd;q=0.5", false, None),
    ] {
        let headers = format!("{cookie}Accept-Encoding: {accepted}\r\n");
        for size in [60_000, 70_000, 3_000_000] {
            let reply = session.request("GET", &format!("{BIG}{size}"), &headers, b"");
            assert_eq!(reply.header("content-encoding"), ours.then_some("zstd"), "{accepted} {size}");
            assert_eq!(site.daemon.last().header("accept-encoding"), asked, "{accepted}");
            let body = if ours { unzstd(&reply.body) } else { reply.body.clone() };
            assert!(body == content(size), "{accepted} {size}");
            assert!(!ours || reply.body.len() < size / 20, "{accepted} {size}: {}", reply.body.len());
            assert_eq!(reply.header("vary"), ours.then_some("Accept-Encoding"));
            let head = session.request("HEAD", &format!("{BIG}{size}"), &headers, b"");
            assert_eq!(head.header("content-length"), reply.header("content-length"), "{accepted} {size}");
        }
    }
    let headers = format!("{cookie}Accept-Encoding: zstd\r\n");
    for path in ["/api2/json/version", "/api2/json/standin/big?size=70000"] {
        assert_eq!(session.request("GET", path, &headers, b"").header("content-encoding"), None, "{path}");
    }
    let line = format!(" 200 {}\n", session.request("GET", &format!("{BIG}5000"), &headers, b"").body.len());
    crate::support::nodegate::eventually("the log has what went over the wire", || {
        site.access_log().ends_with(&line)
    });
}

/// It is also off for responses that are never compressed.
#[test]
fn zstd_is_off_by_default() {
    let site = Site::pve();
    let headers = format!("{}Accept-Encoding: gzip, zstd\r\n", site.cookie("root@pam"));
    for (sets, asked) in
        [(vec![], Some("gzip")), (vec!["compression.api=true", "compression.enabled=0"], None)]
    {
        let gate = Nodegate::start(&site, &sets);
        let reply = gate.get(&format!("{BIG}60000"), &headers);
        assert_eq!((reply.header("content-encoding"), reply.body.len()), (None, 60_000));
        assert_eq!(site.daemon.last().header("accept-encoding"), asked);
    }
}

#[test]
fn curl_reads_the_coding_that_it_requests() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["compression.api=true"]);
    let cookie = site.cookie("root@pam");
    let url = format!("https://127.0.0.1:{}{BIG}200000", gate.port());
    let file = site.path("/tmp/answer");
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", "--compressed", "--max-time", "30", "--header"])
        .args([cookie.trim_end(), "--write-out", "%{http_code} %{size_download}", "--output"])
        .arg(&file)
        .arg(url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (answered, length) = said.split_once(' ').unwrap_or_default();
    assert_eq!(answered, "200", "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert!(length.parse::<usize>().unwrap() < 20_000, "{said}");
    assert!(std::fs::read(file).unwrap() == content(200_000));
}
