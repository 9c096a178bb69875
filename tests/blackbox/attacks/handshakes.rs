//! Handshakes of clients that come back after each rejection.

use std::io::Write as _;

use nodegate_standin::Product;

use super::place::{Listener, Place};
use super::stranger::{Protocol, count, unfinished};
use crate::limits::unfinished::client_hello;
use crate::support::http::tcp_from;

/// A handshake costs CPU. Clients that reconnect after each rejection cannot fill a core with handshakes.
#[test]
fn rejected_clients_share_a_rate_of_handshakes() {
    Place::visit(Product::Pmg, "", &["timeout.handshake=2"], |place| {
        for listener in [Listener::Full, Listener::Quarantine] {
            let way = place.way(Protocol::Http1, listener);
            let rejected = way.job(vec![unfinished(way.guess("json", 0), 524_288, 0); 8]).at_once();
            assert_eq!(count(&rejected, 413), 8, "{rejected:?}");
            let hello = client_hello(way.address());
            let begin = || {
                let mut stream = tcp_from(&way.client, way.address()).unwrap();
                let _ = stream.write_all(&hello);
                stream
            };
            let held: Vec<_> = (0..600).map(|_| begin()).collect();
            let other = place.way(Protocol::Http1, listener).honest_login();
            assert_eq!(other.status, 200, "{}", other.text());
            // The server closes a connection that would wait too long without a byte.
            let answered =
                held.iter().filter(|stream| stream.peek(&mut [0]).is_ok_and(|read| read == 1)).count();
            assert!((1..300).contains(&answered), "{answered} of 600 handshakes began within a second");
        }
    });
}
