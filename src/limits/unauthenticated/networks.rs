//! The order in which unauthenticated connections at one listener are evicted: by the network with most connections,
//! then by age.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use crate::limits::failure_table::ClientKey;

/// `None` stands for all addresses that are not counted.
type AddressNetwork = Option<ClientKey>;

/// Widest first: the /48 of an IPv6 address or the /24 of an IPv4 one, the /56, the client itself.
const LEVELS: usize = 3;
/// The size of a network counts in steps of this many connections. A browser opens six at once; addresses with one
/// connection each must not evict it.
const STEP_CONNECTIONS: usize = 8;
/// An address that is not counted may stand for many clients.
const CLIENTS_BEHIND_UNCOUNTED: usize = 64;

#[derive(Default)]
pub(super) struct NetworkOrder {
    sources: HashMap<u64, AddressNetwork>,
    /// connections of each network, the oldest first
    members: HashMap<(usize, AddressNetwork), BTreeSet<u64>>,
    ranking: BTreeSet<EvictionRank>,
}

/// Level, the network around, size in steps, oldest connection. The last one of a level is evicted first.
type EvictionRank = (usize, AddressNetwork, usize, Reverse<u64>);

impl NetworkOrder {
    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }

    /// `number` is greater than that of any older connection.
    pub(super) fn insert(&mut self, number: u64, source: Option<ClientKey>) {
        self.sources.insert(number, source);
        self.change(source, |members| members.insert(number));
    }

    pub(super) fn remove(&mut self, number: u64) {
        if let Some(source) = self.sources.remove(&number) {
            self.change(source, |members| members.remove(&number));
        }
    }

    /// The oldest connection of the largest client in the largest network.
    pub(super) fn next_to_evict(&self) -> Option<u64> {
        let (mut around, mut oldest) = (None, None);
        for level in 0..LEVELS {
            let smallest = (level, around, 0, Reverse(u64::MAX));
            let largest = (level, around, usize::MAX, Reverse(0));
            let (_, _, _, Reverse(number)) = self.ranking.range(smallest..=largest).next_back()?;
            around = *networks(*self.sources.get(number)?).get(level)?;
            oldest = Some(*number);
        }
        oldest
    }

    fn change(&mut self, source: AddressNetwork, change: impl Fn(&mut BTreeSet<u64>) -> bool) {
        let mut around = None;
        for (level, network) in networks(source).into_iter().enumerate() {
            let members = self.members.entry((level, network)).or_default();
            if let Some(before) = rank(level, around, network, members) {
                self.ranking.remove(&before);
            }
            change(members);
            if let Some(after) = rank(level, around, network, members) {
                self.ranking.insert(after);
            } else {
                self.members.remove(&(level, network));
            }
            around = network;
        }
    }
}

fn rank(
    level: usize,
    around: AddressNetwork,
    network: AddressNetwork,
    members: &BTreeSet<u64>,
) -> Option<EvictionRank> {
    let step = if network.is_some() { STEP_CONNECTIONS } else { STEP_CONNECTIONS * CLIENTS_BEHIND_UNCOUNTED };
    Some((level, around, members.len() / step, Reverse(*members.first()?)))
}

fn networks(source: AddressNetwork) -> [AddressNetwork; LEVELS] {
    match source {
        None => [None; LEVELS],
        Some(ClientKey::V4(address)) => {
            let [a, b, c, _] = address.octets();
            [Some(ClientKey::V4(Ipv4Addr::new(a, b, c, 0))), source, source]
        }
        Some(ClientKey::V6([a, b, c, d])) => {
            [Some(ClientKey::V6([a, b, c, 0])), Some(ClientKey::V6([a, b, c, d & 0xff00])), source]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> ClientKey {
        ClientKey::from_address(text.parse().unwrap())
    }

    /// The connections from `addresses` that are evicted first, in this order.
    fn first<S: Into<Option<ClientKey>>>(addresses: impl IntoIterator<Item = S>, count: usize) -> Vec<u64> {
        let mut networks = NetworkOrder::default();
        for (number, address) in (0..).zip(addresses) {
            networks.insert(number, address.into());
        }
        let leaving = std::iter::from_fn(|| {
            let number = networks.next_to_evict()?;
            networks.remove(number);
            Some(number)
        });
        let gone = leaving.take(count).collect();
        if networks.len() == 0 {
            assert!(networks.members.is_empty() && networks.ranking.is_empty());
        }
        gone
    }

    #[test]
    fn without_large_networks_the_oldest_is_evicted() {
        let few = ["192.0.2.1", "2001:db8::1", "192.0.2.1", "2001:db8:1::1", "198.51.100.1"].map(source);
        assert_eq!(first(few, 9), [0, 1, 2, 3, 4]);
        assert!(first(None::<Option<ClientKey>>, 9).is_empty());
    }

    #[test]
    fn the_largest_network_gives_way_at_each_width() {
        let many = |prefix: fn(usize) -> String| (0..64).map(move |each| source(&prefix(each)));
        let wide: [fn(usize) -> String; 5] = [
            |each| format!("2001:db8:0:{each:x}00::1"),
            |each| format!("2001:db8:0:1{each:02x}::1"),
            |each| format!("2001:db8::{each:x}"),
            |each| format!("192.0.2.{each}"),
            |_| "192.0.2.1".to_owned(),
        ];
        for network in wide {
            let older = (0..20).map(|each| source(&format!("2001:db8:{:x}::1", each + 1)));
            let newer = (0..20).map(|each| source(&format!("198.51.{each}.1")));
            let gone = first(older.chain(many(network)).chain(newer), 33);
            assert_eq!(gone, (20..53).collect::<Vec<_>>(), "{}", network(0));
        }
    }

    #[test]
    fn within_a_network_the_largest_client_gives_way() {
        let neighbours = (0..20).map(|each| source(&format!("2001:db8:0:{each:x}00::1")));
        let client = std::iter::repeat_n(source("2001:db8:0:1234::1"), 40);
        assert_eq!(first(neighbours.chain(client), 20), (20..40).collect::<Vec<_>>());
    }

    #[test]
    fn an_uncounted_address_counts_as_many_clients() {
        let proxied = std::iter::repeat_n(None, 500);
        let client = std::iter::repeat_n(Some(source("192.0.2.1")), 40);
        assert_eq!(first(proxied.chain(client), 9), (500..509).collect::<Vec<_>>());
        let proxied = std::iter::repeat_n(None, 1100);
        let client = std::iter::repeat_n(Some(source("192.0.2.1")), 12);
        assert_eq!(first(client.chain(proxied), 9), (12..21).collect::<Vec<_>>());
    }
}
