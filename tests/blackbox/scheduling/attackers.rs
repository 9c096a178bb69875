//! Clients that want more turns than others: with many streams, many addresses, many credentials.

use std::time::Duration;

use super::held::{Queues, begin, head};
use super::{BEHIND_A_PROXY, CONFIG, call, connections, place, site};
use crate::http2::wire::{END_HEADERS, END_STREAM, HEADERS, Wire, frame, request};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site};

const REALMS: &str = "/api2/json/access/domains";
const LOGIN: &str = "/api2/json/access/ticket";
const WORKERS: usize = 3;
/// The code of a GOAWAY after too many streams.
const ENHANCE_YOUR_CALM: u32 = 11;
/// No call is slow, however busy the machine is: only the clients' turns count here.
const SETS: [&str; 3] = ["backend.workers=3", "backend.slow_call=60", "limits.login_failures=0"];
const CALL: Duration = Duration::from_millis(50);
/// Requests that a machine in trouble may pass on between two steps of a test.
const SLACK: usize = 15;

fn start(site: &Site, queues: &Queues, sets: &[&str]) -> Nodegate {
    Nodegate::start(site, &[&SETS[..], sets, &[&queues.setting()]].concat())
}

/// The calls that went before the call of a client that comes now. `request` makes one with a number.
fn overtaken(site: &Site, session: &mut Session, request: impl FnOnce(usize) -> String) -> usize {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(100_000);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let before = site.daemon.requests().len();
    session.send(request(number));
    let reply = session.reply(false);
    assert_eq!(reply.status, 200, "{}", reply.text());
    place(&site.daemon.requests(), number) - before
}

/// Sends each of these requests on its own connection, and waits until they wait.
fn flood(gate: &Nodegate, queues: &Queues, requests: Vec<String>) -> Vec<Session> {
    let waiting = requests.len() - WORKERS;
    let mut sessions = connections(gate, requests.len());
    for (session, request) in sessions.iter_mut().zip(requests) {
        session.send(request);
    }
    eventually("they wait", || queues.sample("requests_waiting") >= waiting / 2);
    sessions
}

/// GETs of one user on one connection, all at once. A connection with far too many may be closed before the last.
fn send_streams(wire: &mut Wire, cookie: &str, path: &str, count: u32) {
    let block = request("GET", path, &[("cookie", cookie)]);
    let get = |number: u32| frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &block);
    let _ = wire.try_send(&(0..count).flat_map(get).collect::<Vec<_>>());
}

/// Ten thousand streams on forty connections, and as many as are allowed on forty others, all of one user.
#[test]
fn ten_thousand_streams_take_one_turn() {
    const CONNECTIONS: usize = 40;
    /// Of a connection at once.
    const ALLOWED: u32 = 8;
    let (site, queues) = (site(WORKERS), Queues::new());
    let gate = start(&site, &queues, &["http2=true", "backend.queue_per_client=200"]);
    let cookie = site.cookie("attacker@pve");
    let cookie = cookie.trim_end().split_once(": ").unwrap().1;
    let path = call(CONFIG, CALL * 4, 0);
    let mut window = gate.connect();
    let own = site.cookie("window@pve");
    let ask = |number| head(&call("/api2/json/version", Duration::ZERO, number), &own);
    overtaken(&site, &mut window, ask);
    let before = gate.kilobytes("VmRSS");
    let mut allowed: Vec<_> = (0..CONNECTIONS).map(|_| Wire::connect(&gate, &[])).collect();
    for wire in &mut allowed {
        send_streams(wire, cookie, &path, ALLOWED);
    }
    eventually("its queue is full", || queues.sample("queue_rejections_total") > CONNECTIONS);
    let attack = || {
        let mut wire = Wire::connect(&gate, &[]);
        send_streams(&mut wire, cookie, &path, 250);
        wire.end()
    };
    let most = std::thread::scope(|scope| {
        let attacking: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(attack)).collect();
        let most = (0..10).map(|_| overtaken(&site, &mut window, ask)).max();
        assert!(queues.sample("requests_waiting") > 0, "the attack was over before");
        for connection in attacking {
            assert!(matches!(connection.join().unwrap(), None | Some(ENHANCE_YOUR_CALM)));
        }
        most.unwrap()
    });
    let grown = gate.kilobytes("VmRSS").saturating_sub(before);
    println!("{grown} kB, at most {most} calls before one of the window");
    assert!(most <= SLACK, "{most} calls of the attacker went before one of the window");
    assert!(grown < 40_000, "{grown} kB");
    assert_eq!(site.daemon.most_at_once(), WORKERS);
    drop(allowed);
    queues.wait_until_idle();
}

fn login(address: &str, number: usize, form: &str) -> String {
    let (path, length) = (call(LOGIN, CALL, number), form.len());
    format!(
        "POST {path} HTTP/1.1\r\nHost: node1:8006\r\nX-Real-IP: {address}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
    )
}

/// A site owns a /64: its addresses are one client.
#[test]
fn addresses_of_one_ipv6_network_share_turns() {
    let (site, queues) = (site(WORKERS), Queues::new());
    let gate = start(&site, &queues, &BEHIND_A_PROXY);
    let (mut other, mut window) = (gate.connect(), gate.connect());
    let logins = (0..100)
        .map(|number| login(&format!("2001:db8:0:7::{number:x}"), number, "username=root@pam&password=no"));
    let mut sessions = flood(&gate, &queues, logins.collect());
    let form = "username=bob@pve&password=demo";
    let passed = overtaken(&site, &mut other, |number| login("2001:db8:0:8::1", number, form));
    assert!(passed <= SLACK, "{passed} logins of the network went before another login");
    let headers = format!("{}X-Real-IP: 192.0.2.9\r\n", site.cookie("root@pam"));
    let passed =
        overtaken(&site, &mut window, |number| head(&call(CONFIG, Duration::ZERO, number), &headers));
    assert!(passed <= SLACK, "{passed} logins of the network went before the window");
    for session in &mut sessions {
        let status = session.reply(false).status;
        assert!(matches!(status, 401 | 429 | 503), "{status}");
    }
    queues.wait_until_idle();
}

/// API tokens that the daemon has not verified count for the address.
#[test]
fn invented_tokens_share_the_turns_of_an_address() {
    let (site, queues) = (site(WORKERS), Queues::new());
    let gate = start(&site, &queues, &BEHIND_A_PROXY);
    let mut other = gate.connect();
    let invented = (0..100).map(|number| {
        let token = format!("root@pam!t{number}=00000000-0000-4000-8000-{number:012}");
        let headers = format!("X-Real-IP: 192.0.2.7\r\nAuthorization: PVEAPIToken={token}\r\n");
        head(&call(CONFIG, CALL, number), &headers)
    });
    let mut sessions = flood(&gate, &queues, invented.collect());
    let header = "X-Real-IP: 192.0.2.8\r\n";
    let passed = overtaken(&site, &mut other, |number| head(&call(REALMS, Duration::ZERO, number), header));
    assert!(passed <= SLACK, "{passed} calls with invented tokens went before another client");
    for session in &mut sessions {
        let status = session.reply(false).status;
        assert!(matches!(status, 401 | 429 | 503), "{status}");
    }
    queues.wait_until_idle();
}

/// A ticket is renewed every two hours, and a user may have many.
#[test]
fn tickets_of_one_user_share_turns() {
    let (site, queues) = (site(WORKERS), Queues::new());
    let gate = start(&site, &queues, &[]);
    let mut window = gate.connect();
    let calls = (0..100).map(|number| {
        let age = u32::try_from(number).unwrap();
        let ticket = site.keys.ticket("PVE", "attacker@pve", nodegate_standin::now() - i64::from(age));
        head(&call(CONFIG, CALL, number), &format!("Cookie: PVEAuthCookie={ticket}\r\n"))
    });
    let mut sessions = flood(&gate, &queues, calls.collect());
    let own = site.cookie("window@pve");
    let passed = overtaken(&site, &mut window, |number| head(&call(CONFIG, Duration::ZERO, number), &own));
    assert!(passed <= SLACK, "{passed} calls of the user went before the window");
    assert!(sessions.iter_mut().all(|session| session.reply(false).status == 200));
    queues.wait_until_idle();
}

/// Clients without a login share one turn, and half of the queue.
#[test]
fn many_networks_do_not_delay_a_window() {
    const NETWORKS: usize = 300;
    const QUEUE: usize = 200;
    let (site, queues) = (site(WORKERS), Queues::new());
    let queue = format!("backend.queue={QUEUE}");
    let gate = start(&site, &queues, &[&BEHIND_A_PROXY[..], &[&queue]].concat());
    let mut window = gate.connect();
    let calls = (0..NETWORKS)
        .map(|number| head(&call(REALMS, CALL, number), &format!("X-Real-IP: 2001:db8:{number:x}::1\r\n")));
    let mut sessions = connections(&gate, NETWORKS);
    for (session, request) in sessions.iter_mut().zip(calls) {
        session.send(request);
    }
    eventually("they have their part of the queue", || queues.sample("queue_rejections_total") > 0);
    let headers = format!("{}X-Real-IP: 192.0.2.9\r\n", site.cookie("root@pam"));
    for _ in 0..5 {
        let passed =
            overtaken(&site, &mut window, |number| head(&call(CONFIG, Duration::ZERO, number), &headers));
        assert!(passed <= SLACK, "{passed} calls of {NETWORKS} networks went before the window");
    }
    let statuses: Vec<_> = sessions.iter_mut().map(|session| session.reply(false).status).collect();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    let answered = statuses.iter().filter(|status| **status == 200).count();
    assert!(answered >= QUEUE / 2, "{answered} were answered");
    queues.wait_until_idle();
}

/// Seconds of CPU that nodegate has used.
fn cpu_seconds(gate: &Nodegate) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gate.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u32>().unwrap();
    f64::from(ticks(11) + ticks(12)) / 100.0
}

/// Four users whose writes wait behind slow reads of their connections, until the queue is full.
#[test]
fn a_full_queue_costs_little_cpu() {
    const USERS: usize = 4;
    const CONNECTIONS: usize = 32;
    const DEAD: &str = "/api2/json/nodes/node1/storage/dead/content";
    const START: &str = "/api2/json/nodes/node1/qemu/100/status/start";
    let (site, queues) = (site(0), Queues::new());
    let sets = ["http2=true", "backend.workers=3", "backend.slow_call=2", "timeout.queue=120"];
    let gate = Nodegate::start(&site, &[&sets[..], &[&queues.setting()]].concat());
    let cookie = site.cookie("script@pve");
    let learn = format!("{DEAD}?standin-wait=2500");
    assert_eq!(gate.get(&learn, &cookie).status, 200);
    let dead = format!("{DEAD}?standin-hold=dead");
    let mut slow: Vec<_> = (0..2).map(|_| begin(&gate, &dead, &cookie)).collect();
    eventually("they run", || queues.sample("workers_busy") == 2);
    let mut wires = Vec::new();
    for number in 0..USERS * CONNECTIONS {
        let mut wire = Wire::connect(&gate, &[]);
        let user = format!("user{}@pve", number % USERS);
        let value = |line: String| line.trim_end().split_once(": ").unwrap().1.to_owned();
        let (cookie, csrf) = (value(site.cookie(&user)), value(site.csrf(&user)));
        let headers = [("cookie", cookie.as_str()), ("csrfpreventiontoken", csrf.as_str())];
        for stream in 0..8 {
            let (method, path) = if stream == 0 { ("GET", dead.as_str()) } else { ("POST", START) };
            wire.frame(HEADERS, END_HEADERS | END_STREAM, stream * 2 + 1, &request(method, path, &headers));
        }
        wires.push(wire);
    }
    let all = USERS * CONNECTIONS * 8;
    eventually("all wait", || queues.sample("requests_waiting") >= all - 8);
    let (before, began) = (cpu_seconds(&gate), std::time::Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let used = (cpu_seconds(&gate) - before) / began.elapsed().as_secs_f64();
    println!("{used:.3} of a core while {} wait", queues.sample("requests_waiting"));
    site.daemon.release("dead");
    assert!(slow.iter_mut().all(|session| session.reply(false).status == 200));
    assert!(used < 0.5, "{used:.3} of a core");
}
