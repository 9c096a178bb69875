//! Metrics are read by programs of the machine, not by pages that have its address under a name of theirs.

use std::net::SocketAddr;

use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Session, Site};

fn status(address: SocketAddr, request: &str) -> u16 {
    let mut session = Session::plain(address);
    session.send(request);
    session.reply(false).status
}

#[test]
fn metrics_are_served_only_under_known_names() {
    let site = Site::pve();
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let listen = format!("metrics.listen=0.0.0.0:{port}");
    let gate = Nodegate::start(&site, &[&listen, "metrics.hosts=node1.example.com,*.watch.example.com"]);
    eventually("metrics are served", || std::net::TcpStream::connect(address).is_ok());
    for path in ["/metrics", "/-/ready"] {
        let ask = |host: &str| status(address, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        for host in [
            format!("localhost:{port}"),
            format!("127.0.0.1:{port}"),
            "[::1]".to_owned(),
            "LOCALHOST.".to_owned(),
            "node1".to_owned(),
            "Node1.example.com".to_owned(),
            "a.watch.example.com:9".to_owned(),
        ] {
            assert_eq!(ask(&host), 200, "{path} {host}");
        }
        for host in [
            format!("evil.example:{port}"),
            "evil.example".to_owned(),
            "localhost.evil.example".to_owned(),
            "127.0.0.1.evil.example".to_owned(),
            "node2".to_owned(),
            "192.0.2.1".to_owned(),
            "0.0.0.0".to_owned(),
            "\"".to_owned(),
        ] {
            assert_eq!(ask(&host), 421, "{path} {host}");
        }
    }
    for request in [
        "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    ] {
        assert_eq!(status(address, request), 421, "{request}");
    }
    assert_eq!(status(address, "GET /metrics HTTP/1.0\r\n\r\n"), 200, "no browser leaves Host out");
    let other = SocketAddr::from(([127, 0, 0, 5], port));
    assert_eq!(status(other, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.5\r\n\r\n"), 200);
    drop(gate);
}
