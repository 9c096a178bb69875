//! The clients whose logins failed in the last quarter of an hour, for the admin. Limits do not depend on it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

use super::failure_table::ClientKey;

/// Failures are forgotten after this time without another one.
const KEPT: Duration = Duration::from_mins(15);
/// Limit of remembered clients; the least recently seen go first.
const MAX_CLIENTS: usize = 1024;
/// Limit of reported clients.
const MAX_LISTED: usize = 50;

pub struct RecentFailures(Cache<ClientKey, ClientFailures>);

#[derive(Clone, Copy)]
struct ClientFailures {
    count: u64,
    last: Instant,
}

/// The failures of one client, or of all clients whose masked name is the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedFailures {
    /// an address or a network
    pub name: String,
    pub count: u64,
    pub last: Instant,
    /// one of the clients
    pub client: ClientKey,
}

impl Default for RecentFailures {
    fn default() -> Self {
        Self(Cache::new(MAX_CLIENTS))
    }
}

impl RecentFailures {
    pub(super) fn count(&mut self, client: ClientKey, now: Instant) {
        let before = self.0.get(&client).filter(|known| is_kept(known, now)).map_or(0, |known| known.count);
        self.0.insert(client, ClientFailures { count: before + 1, last: now });
    }

    /// The clients, the last one first. A masked name is that of a network.
    pub fn named(&self, is_masked: bool, now: Instant) -> Vec<NamedFailures> {
        let mut all: Vec<_> = self.0.iter().filter(|(_, known)| is_kept(known, now)).collect();
        all.sort_by_key(|(_, known)| std::cmp::Reverse(known.last));
        let mut named: Vec<NamedFailures> = Vec::new();
        for (client, known) in all {
            let name = if is_masked { client.masked() } else { client.to_string() };
            if let Some(same) = named.iter_mut().find(|it| it.name == name) {
                same.count += known.count;
            } else if named.len() < MAX_LISTED {
                let ClientFailures { count, last } = *known;
                named.push(NamedFailures { name, count, last, client: *client });
            }
        }
        named
    }
}

fn is_kept(known: &ClientFailures, now: Instant) -> bool {
    now.saturating_duration_since(known.last) < KEPT
}

impl ClientKey {
    /// The network of the client: enough to find it in the log, and not the client itself.
    fn masked(self) -> String {
        match self {
            Self::V4(address) => format!("{}/24", Ipv4Addr::from_bits(address.to_bits() & 0xffff_ff00)),
            Self::V6([a, b, c, _]) => format!("{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)),
        }
    }
}

/// An IPv4 address, or a /64.
impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4(address) => write!(f, "{address}"),
            Self::V6([first, second, third, fourth]) => {
                write!(f, "{}/64", Ipv6Addr::new(first, second, third, fourth, 0, 0, 0, 0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> ClientKey {
        ClientKey::from_address(text.parse().unwrap())
    }

    fn names(failures: &RecentFailures, is_masked: bool, now: Instant) -> Vec<(String, u64)> {
        failures.named(is_masked, now).into_iter().map(|it| (it.name, it.count)).collect()
    }

    #[test]
    fn the_last_client_comes_first() {
        let (mut failures, start) = (RecentFailures::default(), Instant::now());
        let second = |number| start + Duration::from_secs(number);
        failures.count(client("192.0.2.7"), second(0));
        failures.count(client("2001:db8:1:2:3::4"), second(1));
        failures.count(client("192.0.2.9"), second(2));
        failures.count(client("192.0.2.7"), second(3));
        let expected = [("192.0.2.7", 2), ("192.0.2.9", 1), ("2001:db8:1:2::/64", 1)];
        assert_eq!(
            names(&failures, false, second(4)),
            expected.map(|(name, count)| (name.to_owned(), count))
        );
        let masked = [("192.0.2.0/24", 3), ("2001:db8:1::/48", 1)];
        assert_eq!(names(&failures, true, second(4)), masked.map(|(name, count)| (name.to_owned(), count)));
    }

    #[test]
    fn failures_are_forgotten_after_fifteen_minutes() {
        let (mut failures, start) = (RecentFailures::default(), Instant::now());
        let bad = client("192.0.2.7");
        failures.count(bad, start);
        failures.count(bad, start + KEPT / 2);
        assert_eq!(names(&failures, false, start + KEPT), [("192.0.2.7".to_owned(), 2)]);
        let later = start + KEPT + KEPT / 2;
        assert_eq!(names(&failures, false, later), Vec::new());
        failures.count(bad, later);
        assert_eq!(names(&failures, false, later), [("192.0.2.7".to_owned(), 1)]);
    }

    #[test]
    fn a_flood_of_clients_stays_within_its_memory() {
        let (mut failures, now) = (RecentFailures::default(), Instant::now());
        for number in 0..20_000_u32 {
            failures.count(ClientKey::V4(Ipv4Addr::from_bits(number)), now);
        }
        assert!(failures.0.len() <= MAX_CLIENTS);
        assert_eq!(failures.named(false, now).len(), MAX_LISTED);
    }
}
