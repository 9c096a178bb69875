//! The attacks of strangers, as tests/blackbox/attacks makes them, one after the other in both protocols.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nodegate_standin::{API_TOKEN, forged_ticket};
use serde_json::{Value, json};

use crate::load::{Scene, rounds};
use crate::stranger::{Answer, Job, Protocol, request, unfinished};

const LOGIN: &str = "/api2/json/access/ticket";
const VERSION: &str = "/api2/json/version";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
/// How long connections are held.
const HELD: Duration = Duration::from_secs(2);
/// Addresses that strangers have in all, so that some come again within the minute and meet the limit.
const CLIENTS: u32 = 40;

type Attack = fn(&Stranger) -> Vec<Answer>;

const ATTACKS: [Attack; 10] = [
    guesses_in_every_format,
    guesses_that_are_left,
    guesses_whose_connection_closes,
    unfinished_bodies,
    dripping_bodies,
    unfinished_heads,
    unfinished_handshakes,
    forged_tickets,
    tokens_at_once,
    spool_fields,
];

/// A stranger, by the address of the connection and the one that a proxy would name.
struct Stranger<'s> {
    scene: &'s Scene,
    protocol: Protocol,
    from: String,
    client: String,
}

pub fn strangers(scene: &Scene, until: Instant) -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    rounds(until, |_| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let attack = ATTACKS[usize::try_from(number / 2).unwrap() % ATTACKS.len()];
        let stranger = Stranger {
            scene,
            protocol: if number.is_multiple_of(2) { Protocol::Http1 } else { Protocol::Http2 },
            from: format!("127.0.{}.{}", 1 + number / 250 % 250, 1 + number % 250),
            client: format!("198.51.100.{}", 1 + number % CLIENTS),
        };
        for answer in attack(&stranger) {
            assert!(answer.status.is_none_or(|it| it < 500 || it == 501 || it == 503), "{answer:?}");
        }
    })
}

impl Stranger<'_> {
    fn job(&self, requests: Vec<Value>) -> Job {
        let to = self.scene.gate.local();
        Job {
            protocol: self.protocol,
            to,
            from: self.from.clone(),
            pause: 0.0,
            until_closed: false,
            requests,
        }
    }

    fn request(&self, method: &str, path: &str, header: (&str, &str), body: &str) -> Value {
        request(method, path, &[header, ("X-Real-IP", &self.client)], body)
    }

    fn guess(&self, format: &str, number: usize) -> Value {
        let form = format!("username=root%40pam&password=guess{number}");
        self.request("POST", &format!("/api2/{format}/access/ticket"), FORM, &form)
    }

    fn held(&self, request: Value, count: usize, pause: f64) -> Vec<Answer> {
        let held = Job { pause, ..self.job(vec![request; count]) }.hold();
        std::thread::sleep(HELD);
        held.release(0)
    }
}

fn guesses_in_every_format(stranger: &Stranger) -> Vec<Answer> {
    let formats = ["json", "extjs", "html", "htmljs", "x1"].iter().cycle().take(20).enumerate();
    stranger.job(formats.map(|(number, format)| stranger.guess(format, number)).collect()).at_once()
}

fn guesses_that_are_left(stranger: &Stranger) -> Vec<Answer> {
    let guesses = (0..8).map(|number| stranger.guess("json", number)).collect();
    Job { pause: 0.2, ..stranger.job(guesses) }.leaving()
}

fn guesses_whose_connection_closes(stranger: &Stranger) -> Vec<Answer> {
    let guesses = (0..8).map(|number| stranger.guess("json", number)).collect();
    Job { pause: 0.2, ..stranger.job(guesses) }.closing()
}

fn unfinished_bodies(stranger: &Stranger) -> Vec<Answer> {
    let mut answers = stranger.held(unfinished(stranger.guess("json", 0), 524_288, 524_000), 8, 0.0);
    answers.extend(stranger.held(unfinished(stranger.guess("json", 0), 16_384, 16_000), 8, 0.0));
    answers
}

fn dripping_bodies(stranger: &Stranger) -> Vec<Answer> {
    stranger.held(unfinished(stranger.guess("json", 0), 4000, 0), 16, 0.3)
}

fn unfinished_heads(stranger: &Stranger) -> Vec<Answer> {
    let mut head = stranger.request("GET", VERSION, ("X-Much", &"x".repeat(7000)), "");
    head["head_only"] = true.into();
    stranger.held(head, 16, 0.0)
}

fn unfinished_handshakes(stranger: &Stranger) -> Vec<Answer> {
    stranger.held(json!({ "raw": "\u{16}" }), 40, 0.0)
}

/// At calls, at pages, and with targets that are too long for a log.
fn forged_tickets(stranger: &Stranger) -> Vec<Answer> {
    let cookie = format!("PVEAuthCookie={}", forged_ticket("PVE", "root@pam", 0));
    let cookie = ("Cookie", cookie.as_str());
    let long = format!("/{}", "x".repeat(8000));
    let paths = [VERSION, "/?console=kvm&xtermjs=1", &long].into_iter().cycle().take(12);
    stranger.job(paths.map(|path| stranger.request("GET", path, cookie, "")).collect()).at_once()
}

fn tokens_at_once(stranger: &Stranger) -> Vec<Answer> {
    let token = |number: usize| {
        let token = format!("PVEAPIToken={}", API_TOKEN.replace("5f0c", &format!("{number:04}")));
        stranger.request("GET", VERSION, ("Authorization", &token), "")
    };
    stranger.job((0..12).map(token).collect()).at_once()
}

fn spool_fields(stranger: &Stranger) -> Vec<Answer> {
    let field = "tmpfilename=/var/tmp/pveupload-0123456789abcdef0123456789abcdef";
    let upload = "/api2/json/nodes/node1/storage/local/upload;";
    let calls = [upload, LOGIN, "/api2/htmljs/access/ticket"];
    let answers =
        stranger.job(calls.map(|path| stranger.request("POST", path, FORM, field)).to_vec()).in_turn();
    assert!(answers.iter().all(|answer| answer.status != Some(200)), "{answers:?}");
    answers
}
