//! A daemon of a few workers: the other calls wait, and how many there were is known.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nodegate_standin::{Config, Daemon, Product};

const CALL: Duration = Duration::from_millis(200);

fn ask(daemon: &Daemon) -> TcpStream {
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    let path = format!("/api2/json/access/domains?standin-wait={}", CALL.as_millis());
    stream.write_all(format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    stream
}

#[test]
fn calls_beyond_its_workers_wait() {
    let daemon = Daemon::start(Config { workers: 2, ..Config::new(Product::Pve) });
    let begun = Instant::now();
    let calls: Vec<_> = (0..6).map(|_| ask(&daemon)).collect();
    for mut call in calls {
        let mut answer = String::new();
        call.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert!(begun.elapsed() >= CALL * 3, "{:?}", begun.elapsed());
    assert_eq!((daemon.requests().len(), daemon.most_at_once()), (6, 6));
    daemon.clear();
    assert_eq!(daemon.most_at_once(), 0);
}

/// As a process does that has begun a call.
#[test]
fn a_worker_outlives_its_client() {
    let daemon = Daemon::start(Config { workers: 1, ..Config::new(Product::Pve) });
    let left = ask(&daemon);
    while daemon.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let begun = Instant::now();
    drop(left);
    let mut answer = String::new();
    ask(&daemon).read_to_string(&mut answer).unwrap();
    assert!(begun.elapsed() > CALL + CALL / 2, "{:?}", begun.elapsed());
}

#[test]
fn a_held_call_waits_until_it_is_released() {
    let daemon = Daemon::start(Config::new(Product::Pve));
    let ask = |hold: &str| {
        let mut stream = TcpStream::connect(daemon.address()).unwrap();
        let path = format!("/api2/json/access/domains?standin-hold={hold}");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        stream
    };
    let (mut first, mut second) = (ask("a"), ask("b"));
    daemon.release("a");
    let mut answer = String::new();
    first.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    second.set_read_timeout(Some(CALL)).unwrap();
    assert!(second.read(&mut [0]).is_err(), "it was not released");
    daemon.release("b");
    let mut later = ask("b");
    for stream in [&mut second, &mut later] {
        stream.set_read_timeout(None).unwrap();
        assert!(stream.read(&mut [0; 9]).unwrap() > 0);
    }
}
