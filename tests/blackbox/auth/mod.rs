//! Authentication: requests that pass, and requests that do not.

mod credentials;
mod csrf;
mod keys;
mod login;
mod mail_gateway;
mod open_calls;
mod refusals;
mod tickets;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Nodegate, Reply, Site};

const INVALID_PVE: &str = "Authentication failed!";
const INVALID_PMG: &str = INVALID_PVE;
const BAD_CSRF: &str = "Permission denied - invalid csrf token";
const HOUR: u64 = 3600;

/// A request and what became of it.
struct Attempt {
    reply: Reply,
    took: Duration,
    /// whether the daemon has seen it
    reached: bool,
}

impl Attempt {
    fn make(site: &Site, gate: &Nodegate, method: &str, path: &str, headers: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mark = format!("mark={}.", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut session = gate.connect();
        let before = Instant::now();
        let reply = session.request(method, &format!("{path}?{mark}"), headers, b"");
        let took = before.elapsed();
        let reached = site.daemon.requests().iter().any(|request| request.target.contains(&mark));
        Self { reply, took, reached }
    }

    fn read(site: &Site, gate: &Nodegate, headers: &str) -> Self {
        Self::make(site, gate, "GET", "/api2/json/version", headers)
    }

    fn write(site: &Site, gate: &Nodegate, headers: &str) -> Self {
        Self::make(site, gate, "PUT", "/api2/json/cluster/options", headers)
    }

    fn assert_passes(&self, what: &str) {
        assert!(self.reached, "{what}: {} {}", self.reply.status, self.reply.reason);
    }

    /// Refused, never seen by the daemon, and three seconds late.
    fn assert_refused(&self, reason: &str, what: &str) {
        assert!(!self.reached, "the daemon has seen {what}");
        assert_eq!((self.reply.status, self.reply.reason.as_str()), (401, reason), "{what}");
        let body = format!(r#"{{"data":null,"message":"{reason}"}}"#);
        assert_eq!(self.reply.text(), body, "{what}");
        assert!(self.took >= Duration::from_secs(3), "{what} refused after {:?}", self.took);
        assert!(self.took < Duration::from_millis(4500), "{what} refused after {:?}", self.took);
    }
}

fn cookie(site: &Site, ticket: &str) -> String {
    match site.profile() {
        "pmg" => format!("Cookie: PMGAuthCookie={ticket}\r\n"),
        _ => format!("Cookie: PVEAuthCookie={ticket}\r\n"),
    }
}

/// A machine whose key is three hours old: the plain ages are in effect.
fn settled() -> Site {
    let site = Site::pve();
    site.age("/etc/pve/authkey.pub", 3 * HOUR);
    site
}
