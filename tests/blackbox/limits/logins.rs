//! Guesses at passwords, second factors, tickets and tokens are counted for the address they come from.

use std::time::{Duration, Instant};

use nodegate_standin::{API_TOKEN, Keys, forged_ticket, now};

use super::{LOGIN, VERSION, behind_a_proxy, from, login, login_at, verified};
use crate::listening::namespace::Namespace;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Reply, Session, Site, all_at_once};

const CLIENT: &str = "192.0.2.7";
const THREE: &str = "limits.login_failures=3";

/// Three wrong passwords at the same time.
fn use_up(gate: &Nodegate, client: &str) {
    all_at_once(&[1, 2, 3], |number| {
        let began = Instant::now();
        assert_eq!(login(gate, client, "root@pam", &format!("guess{number}")).status, 401);
        assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    });
}

fn is_refused(reply: &Reply) -> bool {
    let seconds = reply.header("retry-after").map(|text| text.parse::<u64>().unwrap());
    reply.status == 429 && seconds.is_some_and(|seconds| (1..=61).contains(&seconds))
}

fn forged() -> String {
    format!("Cookie: PVEAuthCookie={}\r\n", forged_ticket("PVE", "root@pam", 0))
}

/// Other addresses still log in.
#[test]
fn the_login_limit_blocks_an_address_a_minute() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    use_up(&gate, CLIENT);
    assert_eq!(verified(&site), 3);
    let began = Instant::now();
    let reply = login(&gate, CLIENT, "root@pam", "demo");
    assert!(is_refused(&reply), "{reply:?}");
    assert!(began.elapsed() >= Duration::from_secs(3), "reported early: {:?}", began.elapsed());
    assert_eq!(verified(&site), 3, "the daemon has seen what was refused");
    // Neither the user nor the neighbour nor who is logged in is locked out.
    assert_eq!(login(&gate, "192.0.2.8", "root@pam", "demo").status, 200);
    assert_eq!(gate.get(VERSION, &(from(CLIENT) + &site.cookie("root@pam"))).status, 200);
    assert!(is_refused(&login(&gate, CLIENT, "root@pam", "demo")), "a good ticket has lifted the limit");
}

/// The daemon may have verified a login that it does not answer in time.
#[test]
fn an_abandoned_login_counts() {
    let site = Site::pve();
    let one = ["limits.login_failures=1", "timeout.answer=2", "timeout.answer_unprivileged=2"];
    let gate = behind_a_proxy(&site, &one);
    let form = "username=root@pam&password=x";
    let mut session = gate.connect();
    session.send(format!(
        "POST {LOGIN}?standin-wait=60000 HTTP/1.1\r\nHost: node1\r\n{}Content-Length: {}\r\n\r\n{form}",
        from(CLIENT),
        form.len()
    ));
    eventually("the daemon is asked", || verified(&site) == 1);
    session.reset();
    eventually("it is logged", || site.access_log().contains("\" 596 "));
    let reply = login(&gate, CLIENT, "root@pam", "demo");
    assert!(is_refused(&reply), "{reply:?}");
    assert_eq!(login(&gate, "192.0.2.8", "root@pam", "demo").status, 200);
}

#[test]
fn the_reason_comes_in_the_clients_form() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    use_up(&gate, CLIENT);
    let form = "username=root@pam&password=x";
    let reason = "too many failed logins from this address; try again in ";
    let json = login_at(&gate, LOGIN, CLIENT, form);
    assert!(is_refused(&json) && json.reason.starts_with(reason), "{json:?}");
    assert!(json.json()["message"].as_str().unwrap().starts_with(reason));
    let extjs = login_at(&gate, "/api2/extjs/access/ticket", CLIENT, form);
    assert!(is_refused(&extjs), "{extjs:?}");
    assert_eq!((&extjs.json()["success"], &extjs.json()["status"]), (&0.into(), &429.into()));
    let text = login_at(&gate, "/api2/html/access/ticket", CLIENT, form);
    assert!(is_refused(&text) && text.text().starts_with(reason), "{text:?}");
}

/// The browser's form gets its failure with status 200.
#[test]
fn a_failed_login_answered_200_counts() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=2"]);
    all_at_once(&["a", "b"], |password| {
        let (path, began) = ("/api2/extjs/access/ticket", Instant::now());
        let reply = login_at(&gate, path, CLIENT, &format!("username=root@pam&password={password}"));
        assert_eq!((reply.status, &reply.json()["status"]), (200, &401.into()));
        assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    });
    assert!(is_refused(&login(&gate, CLIENT, "root@pam", "demo")));
}

#[test]
fn second_factors_are_guessed_no_faster_than_passwords() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    let first = login(&gate, CLIENT, "tfa@pve", "demo");
    let half = first.json()["data"]["ticket"].as_str().unwrap().to_owned();
    let half = percent_encoding::utf8_percent_encode(&half, percent_encoding::NON_ALPHANUMERIC).to_string();
    let guess = |code: u32| {
        login_at(&gate, LOGIN, CLIENT, &format!("username=tfa@pve&tfa-challenge={half}&password=totp:{code}"))
    };
    all_at_once(&[1, 2, 3], |code| assert_eq!(guess(*code).status, 401));
    let reply = guess(123_456);
    assert!(is_refused(&reply), "{reply:?}");
}

#[test]
fn concurrent_guesses_stop_at_the_limit() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE, "workers=2"]);
    let cases: Vec<_> = (0..40).collect();
    let refused = std::sync::atomic::AtomicUsize::new(0);
    all_at_once(&cases, |number| {
        let reply = login(&gate, CLIENT, "root@pam", &format!("guess{number}"));
        assert!(reply.status == 401 || is_refused(&reply), "{reply:?}");
        refused.fetch_add(usize::from(reply.status == 429), std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!((verified(&site), refused.into_inner()), (3, 37));
}

#[test]
fn many_concurrent_good_logins_all_succeed() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE, "workers=2"]);
    let cases: Vec<_> = (0..40).collect();
    all_at_once(&cases, |_| assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 200));
    assert_eq!(verified(&site), 40);
}

#[test]
fn forged_tickets_count_and_expired_do_not() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    let old = format!("Cookie: PVEAuthCookie={}\r\n", site.keys.ticket("PVE", "root@pam", now() - 9000));
    all_at_once(&[0; 5], |_| assert_eq!(gate.get(VERSION, &(from(CLIENT) + &old)).status, 401));
    let forged = forged();
    let foreign = Keys::fresh().ticket("PVE", "root@pam", now());
    let foreign = format!("Cookie: PVEAuthCookie={foreign}\r\n");
    all_at_once(&[&forged, &foreign, "Cookie: PVEAuthCookie=rubbish\r\n"], |cookie| {
        assert_eq!(gate.get(VERSION, &(from(CLIENT) + cookie)).status, 401);
    });
    assert!(is_refused(&gate.get(VERSION, &(from(CLIENT) + &forged))));
    assert!(is_refused(&login(&gate, CLIENT, "root@pam", "demo")));
    assert_eq!(gate.get(VERSION, &(from(CLIENT) + &site.cookie("root@pam"))).status, 200);
}

#[test]
fn requests_without_credential_or_csrf_are_not_counted() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=1"]);
    let cookie = site.cookie("root@pam");
    let reads = ["", "Cookie: other=1\r\n"].map(|headers| ("GET", from(CLIENT) + headers));
    let writes = ["", "CSRFPreventionToken: x\r\n"].map(|headers| ("PUT", from(CLIENT) + &cookie + headers));
    all_at_once(&[reads, writes].concat(), |(method, headers)| {
        assert_eq!(gate.request(method, "/api2/json/cluster/options", headers, b"").status, 401);
    });
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 200);
}

/// A valid API token of the same address still passes.
#[test]
fn rejected_api_tokens_count() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    let token = |text: &str| from(CLIENT) + &format!("Authorization: PVEAPIToken={text}\r\n");
    let get = |text: &str| gate.get(VERSION, &token(text)).status;
    assert_eq!(get(API_TOKEN), 200);
    let wrong = API_TOKEN.replace("5f0c", "0000");
    all_at_once(&["0000", "0001", "0002"], |start| assert_eq!(get(&API_TOKEN.replace("5f0c", start)), 401));
    let seen = site.daemon.requests().len();
    assert_eq!((get(&wrong), get(&API_TOKEN.replace("5f0c", "1111"))), (429, 429));
    assert_eq!(site.daemon.requests().len(), seen);
    assert_eq!((get(API_TOKEN), login(&gate, CLIENT, "root@pam", "demo").status), (200, 429));
}

#[test]
fn an_ipv6_client_is_its_64() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    let addresses = ["2001:db8:0:7::1", "2001:db8:0:7::2", "2001:db8:0:7:ffff::3"];
    all_at_once(&addresses, |client| assert_eq!(login(&gate, client, "root@pam", "x").status, 401));
    assert!(is_refused(&login(&gate, "2001:db8:0:7:1234::1", "root@pam", "x")));
    assert_eq!(login(&gate, "2001:db8:0:8::1", "root@pam", "demo").status, 200);
}

#[test]
fn loopback_nodes_and_proxies_are_never_counted() {
    let site = Site::pve();
    site.write(
        "/etc/pve/.members",
        r#"{"nodename":"node1","version":3,"cluster":{"name":"c","version":2,"nodes":2,"quorate":1},
        "nodelist":{"node1":{"id":1,"online":1,"ip":"192.0.2.1"},"node2":{"id":2,"online":1,"ip":"192.0.2.2"}}}"#,
    );
    let one = "limits.login_failures=1";
    let gate = behind_a_proxy(&site, &[one]);
    for client in ["", "127.0.0.1", "::1", "192.0.2.2", "192.0.2.1"] {
        for _ in 0..3 {
            assert_eq!(login(&gate, client, "root@pam", "x").status, 401, "{client}");
        }
    }
    assert_eq!(login(&gate, CLIENT, "root@pam", "x").status, 401);
    assert_eq!(login(&gate, CLIENT, "root@pam", "x").status, 429);
    // Without a list of proxies any client could write any address there, to hide its own or to lock another one out.
    let open = Nodegate::start(&site, &["real_ip.header=X-Real-IP", one]);
    let off = behind_a_proxy(&site, &["limits.login_failures=0"]);
    for _ in 0..3 {
        assert_eq!(login(&open, CLIENT, "root@pam", "x").status, 401);
        assert_eq!(login(&off, CLIENT, "root@pam", "x").status, 401);
    }
}

#[test]
fn delays_grow_and_hold_up_no_worker() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=20", "workers=1"]);
    let cookie = site.cookie("root@pam");
    let slowest = std::sync::Mutex::new(Duration::ZERO);
    let mut cases = vec!["login"; 12];
    cases.push("read");
    all_at_once(&cases, |case| {
        let began = Instant::now();
        if *case == "login" {
            assert_eq!(login(&gate, CLIENT, "root@pam", "x").status, 401);
            let mut slowest = slowest.lock().unwrap();
            *slowest = slowest.max(began.elapsed());
        } else {
            while began.elapsed() < Duration::from_secs(4) {
                let asked = Instant::now();
                assert_eq!(gate.get(VERSION, &cookie).status, 200);
                assert!(asked.elapsed() < Duration::from_secs(2), "held up for {:?}", asked.elapsed());
            }
        }
    });
    let slowest = slowest.into_inner().unwrap();
    assert!(slowest >= Duration::from_secs(9), "the last of twelve came after {slowest:?}");
}

/// nodegate logs them in the words of the daemon.
#[test]
fn failures_no_daemon_sees_reach_fail2ban() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=1"]);
    assert_eq!(login(&gate, CLIENT, "root@pam", "secret-guess").status, 401);
    let line =
        |user: &str, msg: &str| format!("authentication failure; rhost={CLIENT} user={user} msg={msg}");
    assert_eq!(
        site.daemon.last().header("PVEClientIP"),
        Some(CLIENT),
        "the daemon's own line names the client"
    );
    assert!(!gate.stderr().contains("authentication failure; "), "and one is enough: {}", gate.stderr());
    let why = "too many failed logins from this address; try again in ";
    assert_eq!(login(&gate, CLIENT, "bob@pve", "secret-guess").status, 429);
    let json = "Content-Type: application/json\r\n".to_owned() + &from(CLIENT);
    let body =
        br#"{"username":"eve@pve\nauthentication failure; rhost=192.0.2.99","password":"secret-guess"}"#;
    assert_eq!(gate.request("POST", LOGIN, &json, body).status, 429);
    assert_eq!(gate.get(VERSION, &(from(CLIENT) + &forged())).status, 429);
    eventually("the last line is there", || gate.stderr().contains(&line("unknown", "invalid ticket")));
    let log = gate.stderr();
    assert!(log.contains(&line("bob@pve", why)), "{log}");
    assert!(log.contains(&line("eve@pve?authentication?failure??rhost?192.0.2.99", why)), "{log}");
    assert!(!log.contains("secret-guess") && !log.contains("Zm9yZ2Vk"), "{log}");
}

#[test]
fn forged_spice_tickets_count() {
    let Some(space) = Namespace::new() else { return };
    space.ip(&["addr", "add", "192.0.2.50/32", "dev", "lo"]);
    let site = Site::pve();
    let foreign = Keys::fresh();
    space.inside(|| {
        let gate = Nodegate::start_profile(&site, "spice", &["listen.address=192.0.2.50", THREE]);
        let ask = |target: &str| {
            let mut session = Session::plain(gate.local());
            session.send(format!("CONNECT {target} HTTP/1.0\r\nHost: {target}\r\n\r\n"));
            session.reply(false)
        };
        for _ in 0..5 {
            let old = ask(&site.keys.spice_target("node1", 100, 61_000, now() - 60));
            assert_eq!(old.status, 401, "an old ticket is no guess");
        }
        for number in 0..3 {
            assert_eq!(ask(&foreign.spice_target("node1", 100 + number, 61_000, now())).status, 401);
        }
        let began = Instant::now();
        let reply = ask(&foreign.spice_target("node1", 100, 61_000, now()));
        assert!(is_refused(&reply), "{reply:?}");
        assert!(began.elapsed() >= Duration::from_secs(3), "after {:?}", began.elapsed());
        let line = "authentication failure; rhost=192.0.2.50 user=unknown msg=invalid ticket";
        eventually("each is in the log", || gate.stderr().matches(line).count() == 4);
        // A good one is none of it: there is no machine, but it is let through.
        assert_eq!(ask(&site.keys.spice_target("node1", 100, 61_999, now())).status, 502);
    });
}

#[test]
fn wider_prefixes_have_ten_times_the_limit() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=1"]);
    // Ten /64 of one /56, and ten /56 of one /48.
    for (prefix, step) in [("2001:db8:1:11", 1_u32), ("2001:db8:2:", 0x100)] {
        let client = |number: u32| match step {
            1 => format!("{prefix}{number:02x}::1"),
            step => format!("{prefix}{:x}::1", number * step),
        };
        let guesses: Vec<u32> = (1..=10).collect();
        all_at_once(&guesses, |number| {
            assert_eq!(login(&gate, &client(*number), "root@pam", "x").status, 401);
        });
        let reply = login(&gate, &client(11), "root@pam", "demo");
        assert!(is_refused(&reply), "{reply:?}");
    }
    assert_eq!(login(&gate, "2001:db8:3::1", "root@pam", "demo").status, 200);
}

#[test]
fn a_rejection_is_delayed_and_closes_its_connection() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=1"]);
    let mut neighbour = gate.connect();
    let good = from(CLIENT) + &site.cookie("root@pam");
    assert_eq!(neighbour.request("GET", VERSION, &good, b"").status, 200);
    assert_eq!(login(&gate, CLIENT, "root@pam", "x").status, 401);
    let form = from(CLIENT) + "Content-Type: application/x-www-form-urlencoded\r\n";
    let foreign = format!("Cookie: PVEAuthCookie={}\r\n", Keys::fresh().ticket("PVE", "root@pam", now()));
    let token = format!("Authorization: PVEAPIToken={}\r\n", API_TOKEN.replace("5f0c", "0000"));
    let login: (&str, &str, String, &[u8]) = ("POST", LOGIN, form, b"username=root@pam&password=demo");
    let [ticket, token] = [foreign, token].map(|headers| ("GET", VERSION, from(CLIENT) + &headers, &b""[..]));
    all_at_once(&[login, ticket, token], |(method, path, headers, body)| {
        let (mut session, began) = (gate.connect(), Instant::now());
        let reply = session.request(method, path, headers, body);
        assert!(is_refused(&reply), "{reply:?}");
        assert_eq!(reply.header("connection"), Some("close"), "{reply:?}");
        assert!(began.elapsed() >= Duration::from_secs(3), "after {:?}", began.elapsed());
        assert!(session.is_closed());
    });
    assert_eq!(neighbour.request("GET", VERSION, &good, b"").status, 200, "others keep their connections");
}
