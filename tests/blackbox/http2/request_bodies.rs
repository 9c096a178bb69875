//! Bodies of requests over HTTP/2: those that wait for a 100, and those that nodegate does not read.

use std::process::{Command, Output};

use super::{VERSION, curl, start};
use crate::support::{Nodegate, Site};
use crate::upload;

const ECHO: &str = "/api2/json/standin/echo";
const LARGE: u64 = 60_000_000;

/// A file of so many zeros.
fn file(site: &Site, bytes: u64) -> String {
    let path = site.path("/tmp/body");
    std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    path.display().to_string()
}

fn login(site: &Site, user: &str) -> [String; 2] {
    [site.cookie(user), site.csrf(user)].map(|line| line.trim_end().to_owned())
}

#[test]
fn curl_reads_why_a_large_body_is_rejected() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let data = format!("@{}", file(&site, LARGE));
    let multipart = "Content-Type: multipart/form-data; boundary=x";
    let [root, root_token] = login(&site, "root@pam");
    let [bob, bob_token] = login(&site, "bob@pve");
    let cases: [(&str, &[&str], &str, &str); 4] = [
        (ECHO, &["-H", &root, "-H", &root_token], "413", "for data too large"),
        (upload::PATH, &["-H", &bob, "-H", &bob_token, "-H", multipart], "403", "Permission check failed"),
        (upload::PATH, &["-H", multipart], "401", "No ticket"),
        ("/nope", &[], "404", "no such file '/nope'"),
    ];
    for (path, headers, status, reason) in cases {
        for version in ["--http2", "--http1.1"] {
            // Nothing of a body is sent before the answer where curl asks first.
            for expect in [&["-H", "Expect:"][..], &["-H", "Expect: 100-continue"]] {
                let got = curl(&gate, path, &[headers, expect, &[version, "--data-binary", &data]].concat());
                assert_eq!(got.status, status, "{path} {version} {expect:?}: {got:?}");
                let said = if version == "--http2" { &got.body } else { &got.head };
                assert!(said.contains(reason), "{path} {version} {expect:?}: {got:?}");
            }
        }
    }
    assert_eq!(site.daemon.requests().iter().filter(|request| request.method == "POST").count(), 0);
    assert_eq!(upload::spool_files(&site), 0);
}

#[test]
fn the_connection_survives_a_rejected_body() {
    let site = Site::pve();
    let gate = start(&site, &["timeout.idle=2"]);
    let data = format!("@{}", file(&site, LARGE));
    let [cookie, token] = login(&site, "root@pam");
    let url = |path: &str| format!("https://127.0.0.1:{}{path}", gate.port());
    let output = Command::new("curl")
        .args([
            "-sk",
            "--http2",
            "--max-time",
            "60",
            "-w",
            "%{http_code} %{num_connects}\n",
            "-o",
            "/dev/null",
        ])
        .args(["-H", &cookie, "-H", &token, "-H", "Expect:", "--data-binary", &data, &url(ECHO), "--next"])
        .args([
            "-sk",
            "--http2",
            "--max-time",
            "60",
            "-w",
            "%{http_code} %{num_connects}\n",
            "-o",
            "/dev/null",
        ])
        .args(["-H", &cookie, &url(VERSION)])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("413 1\n200 "), "{said} {output:?}");
}

/// Runs `nghttp`, which shows each frame.
fn nghttp(gate: &Nodegate, path: &str, arguments: &[&str]) -> String {
    let output: Output = Command::new("nghttp")
        .args(["-v", "-y", "--no-push", "-t", "20"])
        .args(arguments)
        .arg(format!("https://127.0.0.1:{}{path}", gate.port()))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_waiting_client_gets_100() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let [cookie, token] = login(&site, "root@pam");
    let small = file(&site, 3);
    std::fs::write(&small, "a=1").unwrap();
    let headers = ["-H", &cookie, "-H", &token, "-H", "content-type: application/x-www-form-urlencoded"];
    let said = nghttp(&gate, ECHO, &[&headers[..], &["--expect-continue", "-d", &small]].concat());
    let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("no {text}: {said}"));
    assert!(place(":status: 100") < place("send DATA frame"), "{said}");
    assert!(place("send DATA frame") < place(":status: 200"), "{said}");
    assert_eq!(site.daemon.last().text(), "a=1");
    assert!(site.daemon.last().header("expect").is_none());
    // A rejected request is rejected at once, without a 100.
    let said = nghttp(&gate, ECHO, &["--expect-continue", "-d", &small]);
    assert!(said.contains(":status: 401") && !said.contains(":status: 100"), "{said}");
}

/// Node holds 10 MB of a session at most.
const NODE: &str = r"
const http2 = require('http2');
const session = http2.connect(process.env.DOOR, { rejectUnauthorized: false });
const [name, value] = process.env.TICKET.split(': ');
const [token, text] = process.env.TOKEN.split(': ');
const said = [];
const ask = (path, body, more) => new Promise((resolve, reject) => {
    const stream = session.request({ ':method': 'POST', ':path': path, [name]: value, [token]: text,
        'content-type': 'application/x-www-form-urlencoded', ...more });
    const timer = setTimeout(() => reject(new Error('silence')), 20000);
    if (more.expect) stream.on('continue', () => { said.push('continue'); stream.end(body); });
    else stream.end(body);
    stream.on('response', (headers) => said.push(headers[':status']));
    stream.on('error', reject);
    stream.on('data', () => {});
    stream.on('end', () => { clearTimeout(timer); resolve(); });
});
(async () => {
    await ask('/api2/json/standin/echo', 'a=1', { expect: '100-continue' });
    await ask('/api2/json/standin/echo', Buffer.alloc(5000000), {});
    await ask('/api2/json/standin/echo', 'a=2', {});
    console.log(said.join(' '));
    session.destroy();
})().catch((error) => { console.log(said.join(' '), error.message); process.exit(1); });
";

#[test]
fn node_reuses_a_connection_after_a_rejection() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let [cookie, token] = login(&site, "root@pam");
    let output = Command::new("node")
        .args(["-e", NODE])
        .env("DOOR", format!("https://127.0.0.1:{}", gate.port()))
        .env("TICKET", cookie)
        .env("TOKEN", token)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "continue 200 413 200", "{output:?}");
    let bodies: Vec<_> = site.daemon.requests().iter().map(nodegate_standin::Recorded::text).collect();
    assert_eq!(bodies, ["a=1", "a=2"]);
}
