//! Too much of something: failed logins, bytes, time, connections.

mod announced;
mod answers;
mod crowd;
mod crowded;
mod fail2ban;
mod foreign_pages;
mod forged;
mod guesses;
mod logins;
mod sizes;
mod slow_attacks;
mod strangers;
mod times;
pub mod unfinished;

use crate::support::{Nodegate, Reply, Site};

const LOGIN: &str = "/api2/json/access/ticket";
const VERSION: &str = "/api2/json/version";

/// Believes its own machine who the client is, so that a test can be many clients.
const BEHIND_A_PROXY: [&str; 2] = ["real_ip.header=X-Real-IP", "real_ip.allow_from=127.0.0.1"];

fn behind_a_proxy(site: &Site, more: &[&str]) -> Nodegate {
    Nodegate::start(site, &[&BEHIND_A_PROXY, more].concat())
}

/// The header of the proxy that names a client.
fn from(client: &str) -> String {
    if client.is_empty() { String::new() } else { format!("X-Real-IP: {client}\r\n") }
}

fn login(gate: &Nodegate, client: &str, user: &str, password: &str) -> Reply {
    login_at(gate, LOGIN, client, &format!("username={user}&password={password}"))
}

fn login_at(gate: &Nodegate, path: &str, client: &str, form: &str) -> Reply {
    let headers = from(client) + "Content-Type: application/x-www-form-urlencoded\r\n";
    gate.request("POST", path, &headers, form.as_bytes())
}

/// Logins that the daemon has verified.
fn verified(site: &Site) -> usize {
    site.daemon.requests().iter().filter(|request| request.method == "POST").count()
}
