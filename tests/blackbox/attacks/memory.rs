//! What strangers can have nodegate hold for them.

use nodegate_standin::Product;

use serde_json::{Value, json};

use super::place::{Listener, Place, Way};
use super::stranger::{Answer, Protocol};

/// Connections, or streams, of each stranger.
const CALLS: usize = 24;

/// Kilobytes that each of the calls may hold: TLS in a debug build, mostly.
const KILOBYTES: u64 = 150;

/// What each of so many requests makes the process hold, and the answers to them. An honest user is served beside them.
fn held_for(place: &Place, way: &Way, request: &Value, count: usize) -> (u64, Vec<Answer>) {
    let cookie = place.site.cookie("root@pam");
    assert_eq!(place.gate.get("/api2/json/version", &cookie).status, 200);
    let before = place.gate.kilobytes("VmRSS");
    let held = way.job(vec![request.clone(); count]).hold();
    assert_eq!(place.gate.get("/api2/json/version", &cookie).status, 200, "others are served");
    let each = place.gate.kilobytes("VmRSS").saturating_sub(before) / u64::try_from(count).unwrap();
    println!("{}: {each} kB each", way.name());
    (each, held.release())
}

#[test]
fn unfinished_heads_hold_little() {
    let each_way = Place::visit_each_way("", &[], |place, way| {
        let mut head = way.guess("json", 0);
        head["head_only"] = true.into();
        head["headers"] = json!([["X-Much", "x".repeat(7000)]]);
        held_for(place, way, &head, CALLS)
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
            let (each, _) = held_for(place, &way, &raw, 60);
            assert!(each < KILOBYTES, "{}: {each} kB", way.name());
        }
    });
}
