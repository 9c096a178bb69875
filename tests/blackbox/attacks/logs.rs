//! Lines that strangers can have written to the logs.

use std::time::Instant;

use nodegate_standin::{Product, forged_ticket};

use serde_json::Value;

use super::place::{Listener, Place, Way};
use super::stranger::{Answer, count, request};
use crate::support::nodegate::eventually;

/// Every line names its client, so that fail2ban finds it; no line is much longer than `log.target`.
#[test]
fn long_targets_are_cut_in_the_log() {
    const TARGET: usize = 8000;
    const LINE: usize = 1024 + 300;
    Place::visit(Product::Pmg, "", &[], |place| {
        place.everywhere(|way| {
            let path = format!("/api2/json/{}", "x".repeat(TARGET));
            let requests = vec![request("GET", &path, &[], ""); 10];
            let answers = way.job(requests).at_once();
            assert!(answers.iter().all(|it| it.status.is_some()), "{}: {answers:?}", way.name());
            let mut longest = Vec::new();
            eventually("all are logged", || {
                let log = place.site.access_log();
                let own = log.lines().filter(|line| line.starts_with(&format!("{} ", way.client)));
                longest = own.map(str::len).collect();
                longest.len() == 10
            });
            println!("{}: lines of {} bytes", way.name(), longest.iter().max().unwrap());
            assert!(longest.iter().all(|length| *length < LINE), "{}: {longest:?}", way.name());
        });
    });
}

/// A ticket without a valid signature.
fn forged(way: &Way, number: usize) -> Value {
    let path = if way.listener == Listener::Full { "version" } else { "quarantine/spam" };
    let cookie = format!("PMGAuthCookie={}", forged_ticket("PMG", "root@pam", number));
    request("GET", &format!("/api2/json/{path}"), &[("Cookie", &cookie)], "")
}

/// The first lines of an address come at once, since fail2ban counts them.
#[test]
fn refusals_write_a_line_a_second() {
    const FORGED: usize = 30;
    const FIRST: usize = 5;
    Place::visit(Product::Pmg, "", &["limits.login_failures=3"], |place| {
        place.everywhere(|way| {
            let began = Instant::now();
            way.job((0..FORGED).map(|number| forged(way, number)).collect()).at_once();
            let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
            let named = format!("authentication failure; rhost={} ", way.client);
            let log = place.gate.stderr();
            let lines = log.lines().filter(|line| line.contains(" WARN ") && line.contains(&named)).count();
            println!("{}: {lines} warnings for {FORGED} refusals in {seconds} s", way.name());
            assert!((1..=FIRST + seconds).contains(&lines), "{}: {lines} in {seconds} s", way.name());
        });
    });
}

/// Behind the limit, a guess costs its client time and a connection.
#[test]
fn rejections_are_delayed_and_close_connections() {
    const FORGED: usize = 12;
    Place::visit(Product::Pmg, "", &["limits.login_failures=3"], |place| {
        place.everywhere(|way| {
            way.job((0..5).map(|number| forged(way, number)).collect()).at_once();
            let mut job = way.job((5..FORGED).map(|number| forged(way, number)).collect());
            job.until_closed = true;
            let answers = job.at_once();
            let refused = count(&answers, 429);
            let is_good = |it: &Answer| it.status != Some(429) || it.closing && it.seconds.unwrap() > 2.9;
            println!("{}: {refused} of {} refused", way.name(), answers.len());
            assert!(refused > 0 && answers.iter().all(is_good), "{}: {answers:?}", way.name());
        });
    });
}
