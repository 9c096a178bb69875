//! Memory that strangers can have nodegate hold for them.

use nodegate_standin::Product;

use serde_json::{Value, json};

use super::place::{Listener, Place, Way};
use super::stranger::{Answer, Protocol, count, unfinished};

/// Connections, or streams, of each stranger.
const CALLS: usize = 24;

/// Kilobytes that each of the calls may hold: TLS in a debug build, mostly. A body that was kept would be 512 more.
const KILOBYTES: u64 = 250;

/// The memory that each of so many requests makes the process hold, and the responses to them, some of which come. An
/// honest user is served beside them.
fn held_for(place: &Place, way: &Way, request: &Value, count: usize, answered: usize) -> (u64, Vec<Answer>) {
    let cookie = place.site.cookie("root@pam");
    assert_eq!(place.gate.get("/api2/json/version", &cookie).status, 200);
    let before = place.gate.kilobytes("VmRSS");
    let held = way.job(vec![request.clone(); count]).hold();
    assert_eq!(place.gate.get("/api2/json/version", &cookie).status, 200, "others are served");
    let each = place.gate.kilobytes("VmRSS").saturating_sub(before) / u64::try_from(count).unwrap();
    println!("{}: {each} kB each", way.name());
    (each, held.release(answered))
}

/// A call without login may send much less than a user may.
#[test]
fn large_bodies_of_strangers_are_not_kept() {
    let each_way = Place::visit_each_way("", &[], |place, way| {
        held_for(place, way, &unfinished(way.guess("json", 0), 524_288, 524_000), CALLS, CALLS)
    });
    for (each, answers) in each_way {
        assert!(each < KILOBYTES, "{each} kB");
        assert_eq!(count(&answers, 413), CALLS, "{answers:?}");
    }
}

#[test]
fn bodies_that_stop_are_given_up_soon() {
    Place::visit(Product::Pmg, "", &["timeout.login_body=2"], |place| {
        place.everywhere(|way| {
            let answers = way.job(vec![unfinished(way.guess("json", 0), 16_000, 15_000); 4]).at_once();
            assert_eq!(count(&answers, 408), 4, "{}: {answers:?}", way.name());
            assert_eq!(way.verified(), 0, "{}", way.name());
        });
    });
}

/// All bodies together have a budget; beyond it, nodegate asks clients to retry.
#[test]
fn bodies_of_many_strangers_have_a_budget() {
    let each_way =
        Place::visit_each_way("", &["limits.buffered=1048576", "timeout.login_body=300"], |place, way| {
            let held = way.job(vec![unfinished(way.guess("json", 0), 16_384, 16_000); CALLS]).hold();
            let other = place.way(way.protocol, way.listener).honest_login();
            (held.release(CALLS / 2), other)
        });
    for (answers, other) in each_way {
        assert_eq!(other.status, 200, "another address has room: {}", other.text());
        let reported = |answer: &&Answer| answer.status == Some(503) && answer.retry.is_some();
        let refused = answers.iter().filter(reported).count();
        println!("{refused} of {CALLS} got 503");
        assert!(refused >= CALLS / 3, "{answers:?}");
    }
}

/// Only bytes that have come count, so announced bodies take nothing of the budget.
#[test]
fn bodies_only_announced_take_no_room() {
    let each_way =
        Place::visit_each_way("", &["limits.buffered=1048576", "timeout.login_body=4"], |place, way| {
            let held = way.job(vec![unfinished(way.guess("json", 0), 16_384, 0); CALLS]).hold();
            let other = place.way(way.protocol, way.listener).honest_login();
            (held.release(CALLS), other)
        });
    for (answers, other) in each_way {
        assert_eq!(other.status, 200, "{}", other.text());
        assert_eq!(count(&answers, 408), CALLS, "{answers:?}");
    }
}

#[test]
fn unfinished_heads_hold_little() {
    let each_way = Place::visit_each_way("", &[], |place, way| {
        let mut head = way.guess("json", 0);
        head["head_only"] = true.into();
        head["headers"] = json!([["X-Much", "x".repeat(7000)]]);
        held_for(place, way, &head, CALLS, 0)
    });
    assert!(each_way.iter().all(|(each, _)| *each < KILOBYTES), "{each_way:?}");
}

/// One byte that begins a TLS record.
#[test]
fn unfinished_handshakes_hold_little() {
    Place::visit(Product::Pmg, "", &[], |place| {
        for way in
            [place.way(Protocol::Http1, Listener::Full), place.way(Protocol::Http1, Listener::Quarantine)]
        {
            let raw = json!({ "raw": "\u{16}" });
            let (each, _) = held_for(place, &way, &raw, 60, 0);
            assert!(each < KILOBYTES, "{}: {each} kB", way.name());
        }
    });
}
