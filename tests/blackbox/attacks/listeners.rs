//! Strangers at the public listener, and administrators at theirs.

use nodegate_standin::Product;
use serde_json::Value;

use super::place::{Listener, Place};
use super::stranger::{Protocol, request};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];
/// Long enough that a slow machine ends no connection during the test.
const HELD: &str = "timeout.header=300";
const VERSION: &str = "/api2/json/version";

/// A head without an end, on a separate connection.
fn connection(from: Option<&str>) -> Value {
    let mut request = request("GET", "/quarantine", &[], "");
    request["head_only"] = true.into();
    request["alone"] = true.into();
    if let Some(from) = from {
        request["from"] = from.into();
    }
    request
}

#[test]
fn a_crowd_leaves_other_listeners_their_permits() {
    for protocol in BOTH {
        Place::visit(Product::Pmg, "connections = 20\n", &["limits.connections=30", HELD], |place| {
            let crowd = (100..140).map(|last| connection(Some(&format!("192.0.2.{last}"))));
            let held = place.way(protocol, Listener::Quarantine).job(crowd.collect()).hold();
            let admin = place.way(protocol, Listener::Full);
            let reply = admin.honest("GET", VERSION, &place.site.cookie("root@pam"), "");
            let login = admin.honest_login();
            println!("{protocol:?}: an administrator got {} and {}", reply.status, login.status);
            assert_eq!((reply.status, login.status), (200, 200), "{}", reply.text());
            drop(held);
        });
    }
}

#[test]
fn public_listeners_allow_64_connections_per_address() {
    for protocol in BOTH {
        Place::visit(Product::Pmg, "", &[HELD], |place| {
            let way = place.way(protocol, Listener::Quarantine);
            let held = way.job(vec![connection(None); 66]).hold();
            let reply = way.honest("GET", VERSION, "", "");
            let other = place.way(protocol, Listener::Quarantine).honest("GET", VERSION, "", "");
            println!("{protocol:?}: the address got {}, another one {}", reply.status, other.status);
            assert_eq!((reply.status, other.status), (429, 401), "{}", reply.text());
            drop(held);
        });
    }
}
