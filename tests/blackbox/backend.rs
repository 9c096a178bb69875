//! The daemon's side: what it is sent, and what happens when it does not answer as it should.

mod connections;
mod failures;
mod long_calls;
mod queue;
mod shared;
mod titles;
mod zstd;

use nodegate_standin::content;

use crate::support::{Nodegate, Site};

const VERSION: &str = "/api2/json/version";

#[test]
fn statuses_and_phrases_of_the_daemon_pass() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    for (status, text) in
        [(200, "OK"), (400, "Bad things"), (403, "Forbidden fruit"), (501, "later"), (595, "x y")]
    {
        let path = format!("/api2/json/standin/reason?status={status}&text={}", text.replace(' ', "%20"));
        let reply = gate.get(&path, &cookie);
        assert_eq!((reply.status, reply.reason.as_str()), (status, text));
        assert_eq!(reply.json()["data"], serde_json::Value::Null);
    }
    let reply = gate.get("/api2/json/no/such/call", &cookie);
    assert_eq!((reply.status, reply.reason.as_str()), (501, "Method 'GET /no/such/call' not implemented"));
    let reply = gate.get("/api2/extjs/no/such/call", &cookie);
    assert_eq!((reply.status, reply.json()["status"].as_u64()), (200, Some(501)));
}

#[test]
fn bodies_arrive_unchanged_in_every_framing() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    for size in [0, 1, 65_536, 65_537, 3_000_000] {
        for kind in ["big", "until-close"] {
            let path = format!("/api2/json/standin/{kind}?size={size}");
            let reply = session.request("GET", &path, &cookie, b"");
            assert!(reply.status == 200 && reply.body == content(size), "{kind} {size}");
            assert!(kind != "big" || reply.header("content-length") == Some(&size.to_string()), "{size}");
        }
    }
    let reply = session.request("GET", "/api2/json/standin/chunked", &cookie, b"");
    assert_eq!(reply.text(), r#"{"data":"chunked"}"#);
    let reply = session.request("GET", "/api2/json/standin/binary", &cookie, b"");
    assert_eq!(reply.body, (0..=255).collect::<Vec<u8>>());
}

/// Kilobytes of memory that are resident, at their highest.
fn peak(gate: &Nodegate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_big_response_is_streamed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
    let before = peak(&gate);
    for kind in ["big", "until-close"] {
        let reply = gate.get(&format!("/api2/json/standin/{kind}?size=50000000"), &cookie);
        assert!(reply.body == content(50_000_000), "{kind}");
    }
    let grown = peak(&gate) - before;
    assert!(grown < 12_000, "{grown} kB more");
}

#[test]
fn a_slow_reader_does_not_fill_our_memory() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
    let before = peak(&gate);
    let mut session = gate.connect();
    session.send(format!("GET /api2/json/standin/big?size=50000000 HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(peak(&gate) - before < 12_000);
    assert!(session.reply(false).body == content(50_000_000));
}

/// The client lists codings; nodegate asks the daemon for one of them.
#[test]
fn the_daemon_gets_one_accepted_coding() {
    let site = Site::pve();
    let cases = [
        ("gzip, deflate, br, zstd", Some("gzip")),
        ("deflate", Some("deflate")),
        ("gzip;q=0.5, deflate;q=0.9", Some("deflate")),
        ("gzip;q=0, deflate", Some("deflate")),
        ("gzip;q=0", None),
        ("br", None),
        ("*", Some("gzip")),
        ("*;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("rubbish;;", None),
    ];
    let cookie = site.cookie("root@pam");
    for compression in ["1", "0"] {
        let gate = Nodegate::start(&site, &[&format!("compression.enabled={compression}")]);
        for (accepted, expected) in cases {
            let headers = format!("{cookie}Accept-Encoding: {accepted}\r\n");
            assert_eq!(gate.get(VERSION, &headers).status, 200);
            let expected: Vec<_> = expected.filter(|_| compression == "1").into_iter().collect();
            assert_eq!(site.daemon.last().all("accept-encoding"), expected, "{accepted} {compression}");
        }
        assert_eq!(gate.get(VERSION, &cookie).status, 200);
        assert_eq!(site.daemon.last().all("accept-encoding"), [""; 0]);
    }
}

#[test]
fn the_daemon_gets_the_client_address() {
    let site = Site::pve();
    let cookie = site.cookie("root@pam");
    for (listen, connect, expected) in [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("::", "127.0.0.1", "127.0.0.1"),
        ("::", "::1", "::1"),
        ("::1", "::1", "::1"),
    ] {
        let gate = Nodegate::start(&site, &[&format!("listen.address={listen}"), "real_ip.header=X-Real"]);
        let address = std::net::SocketAddr::new(connect.parse().unwrap(), gate.port());
        let headers = format!("{cookie}X-Real: 192.0.2.9\r\n");
        let reply = crate::support::Session::tls(address).request("GET", VERSION, &headers, b"");
        assert_eq!(reply.status, 200);
        assert_eq!(site.daemon.last().all("pveclientip"), [expected], "{connect} on {listen}");
    }
}
