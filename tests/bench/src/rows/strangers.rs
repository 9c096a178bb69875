//! Honest clients beside each attack of strangers: the latency of a user with a ticket, and of a login.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use nodegate_standin::{API_TOKEN, Config, Daemon, Product, now};

use super::api::get;
use super::memory::pss;
use super::{Against, Goal, Row, figure};
use crate::Plan;
use crate::lab::{Lab, PROXY_CORE};
use crate::load::latency::{self, Latency};
use crate::load::stranger::{Attack, Strangers};
use crate::measure::{Contender, Sample, Series, interleave};
use crate::proxy::{self, Job, Proxy, Upstream};

/// How long a wrong password takes the daemon.
const REFUSAL: Duration = Duration::from_secs(3);
/// Until an attack is what it will be: its first calls take all workers once, until the daemon has refused them.
const SETTLED: Duration = Duration::from_secs(5);
const ALONE: &str = "alone";
const VERSION: &str = "/api2/json/version";

/// An attack, how many clients make it, and from how many addresses.
struct Scenario {
    name: &'static str,
    attack: Attack,
    clients: usize,
    addresses: u8,
}

pub(crate) fn measure(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let daemon = Daemon::start(Config {
        keys: Arc::new(lab.keys.clone()),
        refusal_delay: REFUSAL,
        record: false,
        ..Config::new(Product::Pve)
    });
    let job = Job::new(daemon.address().parse()?, Upstream::Fresh);
    let scenarios = scenarios(if plan.is_quick() { 100 } else { plan.connections });
    let run = |scenario: Option<&Scenario>| {
        let proxy = proxy::nodegate(lab, job, PROXY_CORE, &["workers=3", "listen.address=0.0.0.0"])?;
        let rest = pss(&proxy)?;
        let attack = scenario.map(|it| Strangers::start(proxy.address, &it.attack, it.clients, it.addresses));
        let attack = attack.transpose()?;
        let held = scenario.filter(|it| matches!(it.attack, Attack::Hold(_) | Attack::HoldPlain(_)));
        let wanted = held.map_or(1, |it| it.clients * 9 / 10);
        let begun = std::time::Instant::now();
        while attack.as_ref().is_some_and(|it| it.begun() < wanted) {
            ensure!(begun.elapsed() < Duration::from_mins(2), "the attack does not begin");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(SETTLED);
        let mut sample = honest(lab, &proxy, plan.seconds)?;
        sample.insert("memory", pss(&proxy)? - rest);
        let made = attack.as_ref().map_or(0, Strangers::begun);
        sample.insert("made", f64::from(u32::try_from(made)?));
        Ok(sample)
    };
    let run = &run;
    let mut contenders = vec![Contender::new(ALONE, move || run(None))];
    contenders.extend(scenarios.iter().map(|it| Contender::new(it.name, move || run(Some(it)))));
    let mut series = interleave(plan.repeats.min(3), contenders)?;
    compare(&mut series);
    let goals = series.iter().skip(1).flat_map(|one| {
        ["get99", "login99"].map(|figure| Goal::at_least(0.5, figure, Against::One(one.name)))
    });
    Ok(vec![Row {
        id: "strangers",
        job: "4 users and one who logs in, alone and beside each attack of strangers".to_owned(),
        figures: vec![
            figure("get50", "GET p50 ms", 2),
            figure("get99", "GET p99 ms", 2),
            figure("get-ratio", "p99 ÷ alone", 2),
            figure("login50", "login p50 ms", 2),
            figure("login99", "login p99 ms", 2),
            figure("login-ratio", "p99 ÷ alone", 2),
            figure("memory", "MB more", 1),
            figure("made", "connections, requests of the attack", 0),
        ],
        goals: goals.collect(),
        series,
    }])
}

/// The latency of all other clients during the attack.
fn honest(lab: &Lab, proxy: &Proxy, seconds: f64) -> Result<Sample> {
    let asked = get(VERSION, &lab.tickets(0, 1).concat());
    let login = post("json", "username=root%40pam&password=demo");
    let duration = Duration::from_secs_f64(seconds);
    let sample =
        |request: &str, clients, pause| latency::sample(proxy.address, request, clients, pause, duration);
    let (users, logins) = std::thread::scope(|scope| {
        let logins = scope.spawn(|| sample(&login, 1, Duration::from_millis(5)));
        let users: Result<Latency> = sample(&asked, 4, Duration::from_millis(2));
        (users, logins.join())
    });
    let users = users?;
    let logins = logins.map_err(|_| anyhow::anyhow!("the logins ended with a panic"))??;
    Ok(Sample::from([
        ("get50", users.p50),
        ("get99", users.p99),
        ("login50", logins.p50),
        ("login99", logins.p99),
    ]))
}

/// Adds to each sample its ratio to nodegate without attack in the same repeat.
fn compare(series: &mut [Series]) {
    let Some((alone, others)) = series.split_first_mut() else { return };
    for one in others {
        for (sample, alone) in one.samples.iter_mut().zip(&alone.samples) {
            for (name, ratio) in [("get99", "get-ratio"), ("login99", "login-ratio")] {
                if let (Some(ours), Some(theirs)) = (sample.get(name).copied(), alone.get(name)) {
                    sample.insert(ratio, ours / theirs);
                }
            }
        }
    }
}

fn post(format: &str, form: &str) -> String {
    format!(
        "POST /api2/{format}/access/ticket HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )
}

/// The attacks of the table in docs/security.md, as many of each as a stranger has connections.
fn scenarios(connections: usize) -> Vec<Scenario> {
    let guess = |format: &str| post(format, "username=root%40pam&password={n}");
    let announced = |length: usize, sent: usize| {
        let head = "POST /api2/json/access/ticket HTTP/1.1\r\nHost: localhost\r\n\
                    Content-Type: application/x-www-form-urlencoded\r\n";
        [format!("{head}Content-Length: {length}\r\n\r\n").into_bytes(), vec![b'x'; sent]].concat()
    };
    let ask = |path: &str, header: &str, value: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}: {value}\r\n\r\n")
    };
    let half_head = format!("GET /{} HTTP/1.1\r\nX-Much: {}", "x".repeat(1000), "x".repeat(6000));
    let token = format!("PVEAPIToken={}", API_TOKEN.replace("000000000001", "{n}"));
    let cookie = format!("PVEAuthCookie=PVE:root@pam:{:08X}::Zm9yZ2Vk{{n}}", now());
    let long = format!("GET /{}{{n}} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(8000));
    let few = connections.min(1000);
    let scenario = |name, attack, clients, addresses| Scenario { name, attack, clients, addresses };
    let pause = Duration::from_millis(10);
    vec![
        scenario("guesses in an unread format", Attack::Ask(guess("htmljs"), pause), 60, 1),
        scenario("guesses that are left", Attack::Leave(guess("json"), Duration::from_millis(400)), 20, 1),
        scenario("bodies that stay unfinished", Attack::Hold(announced(16_384, 16_000)), few, 200),
        scenario("bodies beyond the limit", Attack::Hold(announced(524_288, 65_536)), few, 200),
        scenario("logins that drip", Attack::Drip(announced(4000, 10), Duration::from_secs(1)), 100, 1),
        scenario("heads without an end", Attack::Hold(half_head.into_bytes()), few, 200),
        scenario("handshakes of a byte", Attack::HoldPlain(vec![0x16]), connections, 200),
        scenario("long targets", Attack::Ask(long, pause), 3, 1),
        scenario("forged tickets", Attack::Ask(ask(VERSION, "Cookie", &cookie), pause), 20, 1),
        scenario("forged tickets at pages", Attack::Ask(ask("/", "Cookie", &cookie), pause), 20, 1),
        scenario("tokens at once", Attack::Ask(ask(VERSION, "Authorization", &token), pause), 60, 1),
    ]
}
