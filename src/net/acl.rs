//! The access list: two lists and a policy.
//!
//! An address only on the allow list is admitted, one only on the deny list is rejected. The policy decides if an
//! address is on both or on neither. An empty list holds no address.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

use crate::net::ip_range::AddressRange;

/// The address of the TCP peer, with an IPv4-mapped IPv6 address converted to IPv4. The access list checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerIp(IpAddr);

impl PeerIp {
    /// On a `[::]` socket an IPv4 peer shows as `::ffff:a.b.c.d`; here it becomes `a.b.c.d`.
    pub fn new(address: IpAddr) -> PeerIp {
        PeerIp(address.to_canonical())
    }

    pub fn address(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for PeerIp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The decision for a peer on both lists or on neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AclPolicy {
    #[default]
    Allow,
    Deny,
}

impl fmt::Display for AclPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            AclPolicy::Allow => "allow",
            AclPolicy::Deny => "deny",
        })
    }
}

/// The two lists and the policy between them.
#[derive(Debug, Clone, Default)]
pub struct AccessList {
    pub(crate) allow: AddressList,
    pub(crate) deny: AddressList,
    pub(crate) policy: AclPolicy,
}

/// The decision for one peer, and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclVerdict<'a> {
    pub allowed: bool,
    pub rule: AccessRule<'a>,
}

/// The part of an access list that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessRule<'a> {
    /// an entry of the allow list only
    Allow(&'a str),
    /// an entry of the deny list only
    Deny(&'a str),
    /// the policy, for an address in both lists
    PolicyOfBoth { allow: &'a str, deny: &'a str, policy: AclPolicy },
    /// the policy, for an address in neither list
    PolicyOfNeither(AclPolicy),
}

impl AccessList {
    /// Whether the peer may connect. Takes logarithmic time and allocates nothing.
    pub fn admits(&self, peer: PeerIp) -> bool {
        match (self.allow.contains(peer.address()), self.deny.contains(peer.address())) {
            (true, false) => true,
            (false, true) => false,
            (true, true) | (false, false) => self.policy == AclPolicy::Allow,
        }
    }

    /// The same decision as [`admits`](Self::admits) with the entries behind it; walks both lists.
    pub fn explain(&self, peer: PeerIp) -> AclVerdict<'_> {
        let policy = self.policy;
        let rule = match (self.allow.entry_for(peer.address()), self.deny.entry_for(peer.address())) {
            (Some(allow), None) => AccessRule::Allow(allow),
            (None, Some(deny)) => AccessRule::Deny(deny),
            (Some(allow), Some(deny)) => AccessRule::PolicyOfBoth { allow, deny, policy },
            (None, None) => AccessRule::PolicyOfNeither(policy),
        };
        AclVerdict { allowed: self.admits(peer), rule }
    }
}

/// A list with its lookup set, and the text of each entry for explanations.
#[derive(Debug, Clone, Default)]
pub struct AddressList {
    entries: Vec<(String, Vec<AddressRange>)>,
    set: NetworkSet,
}

impl AddressList {
    /// Takes the entries of [`parse_list`](crate::net::ip_range::parse_list).
    pub fn new(entries: Vec<(String, Vec<AddressRange>)>) -> AddressList {
        let set = NetworkSet::new(entries.iter().flat_map(|(_, ranges)| ranges.iter().copied()));
        AddressList { entries, set }
    }

    /// Whether it has the address, whose IPv4-mapped form counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.set.contains(address)
    }

    /// The text of the first entry that holds the address.
    pub fn entry_for(&self, address: IpAddr) -> Option<&str> {
        let address = address.to_canonical();
        let holds = |ranges: &[AddressRange]| ranges.iter().any(|range| range.canonical().contains(address));
        self.entries.iter().find(|(_, ranges)| holds(ranges)).map(|(text, _)| text.as_str())
    }
}

/// A set of networks with lookup by binary search.
///
/// The networks are sorted and free of overlap, because `aggregate` leaves them so; those of IPv4 come first. An
/// IPv4-mapped address is IPv4 on both sides, therefore `::/0` holds no IPv4 client.
#[derive(Debug, Clone, Default)]
pub struct NetworkSet(Vec<IpNet>);

impl NetworkSet {
    /// Merges adjacent ranges.
    pub fn new(ranges: impl IntoIterator<Item = AddressRange>) -> NetworkSet {
        let subnets = |range: AddressRange| match (range.first(), range.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Some(IpSubnets::V4(Ipv4Subnets::new(first, last, 0))),
            (IpAddr::V6(first), IpAddr::V6(last)) => Some(IpSubnets::V6(Ipv6Subnets::new(first, last, 0))),
            // An AddressRange is of one family.
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        };
        let ranges = ranges.into_iter().map(AddressRange::canonical);
        NetworkSet(IpNet::aggregate(&ranges.filter_map(subnets).flatten().collect()))
    }

    /// Whether it has the address, whose IPv4-mapped form counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let before = self.0.partition_point(|network| network.network() <= address);
        let last = before.checked_sub(1).and_then(|last| self.0.get(last));
        last.is_some_and(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use fastrand::Rng;

    use super::*;
    use crate::net::ip_range::{parse_entry, parse_list};

    fn list(text: &str) -> AddressList {
        let (entries, errors) = parse_list(text);
        assert_eq!(errors, []);
        AddressList::new(entries)
    }

    fn peer(text: &str) -> PeerIp {
        PeerIp::new(text.parse().unwrap())
    }

    #[test]
    fn lists_and_policy_match_the_truth_table() {
        type RuleUnder = fn(AclPolicy) -> AccessRule<'static>;
        let both: RuleUnder = |policy| AccessRule::PolicyOfBoth { allow: "10/8", deny: "all", policy };
        let neither: RuleUnder = AccessRule::PolicyOfNeither;
        let (allow, deny): (RuleUnder, RuleUnder) =
            (|_| AccessRule::Allow("10/8"), |_| AccessRule::Deny("10/8"));
        let table = [
            ("10/8", "11/8", true, true, allow),
            ("11/8", "10/8", false, false, deny),
            ("11/8", "12/8", false, true, neither),
            ("", "", false, true, neither),
            ("10/8", "all", false, true, both),
        ];
        for (allow, deny, under_deny, under_allow, rule) in table {
            for (policy, expected) in [(AclPolicy::Deny, under_deny), (AclPolicy::Allow, under_allow)] {
                let access = AccessList { allow: list(allow), deny: list(deny), policy };
                let verdict = access.explain(peer("10.1.2.3"));
                assert_eq!(access.admits(peer("10.1.2.3")), expected, "{allow} {deny} {policy}");
                assert_eq!(verdict, AclVerdict { allowed: expected, rule: rule(policy) });
            }
        }
    }

    #[test]
    fn empty_lists_admit_every_client() {
        assert!(AccessList::default().admits(peer("192.0.2.1")));
        assert!(AccessList::default().admits(peer("2001:db8::1")));
    }

    #[test]
    fn families_meet_only_through_mapped_addresses() {
        let table = [
            ("::/0", "10.0.0.1", false),
            ("::/0", "::ffff:10.0.0.1", false),
            ("::/0", "2001:db8::1", true),
            ("0/0", "2001:db8::1", false),
            ("0/0", "::ffff:10.0.0.1", true),
            ("all", "10.0.0.1", true),
            ("all", "2001:db8::1", true),
            ("::ffff:10.0.0.0/104", "10.9.9.9", true),
            ("::ffff:10.0.0.0/104", "::ffff:10.9.9.9", true),
            ("::ffff:10.0.0.0/104", "11.0.0.0", false),
            ("::ffff:10.0.0.1 - ::ffff:10.0.0.3", "10.0.0.2", true),
            ("10.0.0.1-10.0.0.5", "10.0.0.0", false),
            ("10.0.0.1-10.0.0.5", "10.0.0.1", true),
            ("10.0.0.1-10.0.0.5", "10.0.0.5", true),
            ("10.0.0.1-10.0.0.5", "10.0.0.6", false),
            ("255.255.255.255", "255.255.255.255", true),
            ("::1", "0.0.0.1", false),
            ("", "10.0.0.1", false),
        ];
        for (text, address, expected) in table {
            let (list, address) = (list(text), address.parse().unwrap());
            assert_eq!(list.contains(address), expected, "{text} {address}");
            assert_eq!(list.entry_for(address).is_some(), expected, "{text} {address}");
        }
    }

    #[test]
    fn the_first_matching_entry_explains_the_verdict() {
        let list = list("192.168.0, 10.0.0.0/8, all");
        assert_eq!(list.entry_for("10.0.0.1".parse().unwrap()), Some("10.0.0.0/8"));
        assert_eq!(list.entry_for("192.168.0.1".parse().unwrap()), Some("all"));
        assert_eq!(list.entry_for("::ffff:192.168.0.0".parse().unwrap()), Some("192.168.0"));
    }

    /// Few distinct bits, so that ranges and probes meet, touch and overlap.
    fn address(random: &mut Rng) -> IpAddr {
        let low = u32::from(random.u8(..)) | [0, 0xff00, 0xffff_ff00][random.usize(..3)];
        match random.u8(..3) {
            0 => Ipv4Addr::from_bits(low).into(),
            1 => Ipv6Addr::from_bits(low.into()).into(),
            _ => Ipv6Addr::from_bits(0xffff_0000_0000 | u128::from(low)).into(),
        }
    }

    fn ranges(random: &mut Rng) -> Vec<AddressRange> {
        let pairs: Vec<_> = (0..random.u8(..12)).map(|_| (address(random), address(random))).collect();
        pairs.into_iter().filter_map(|(a, b)| parse_entry(&format!("{a}-{b}")).ok()).flatten().collect()
    }

    #[test]
    fn lookup_agrees_with_a_scan_of_every_range() {
        let mut random = Rng::with_seed(7);
        let (mut inside, mut outside) = (0, 0);
        for _ in 0..300 {
            let ranges = ranges(&mut random);
            let set = NetworkSet::new(ranges.iter().copied());
            for _ in 0..100 {
                let probe = address(&mut random);
                let plain = probe.to_canonical();
                let expected = ranges
                    .iter()
                    .map(|range| range.canonical())
                    .any(|r| r.first() <= plain && plain <= r.last());
                assert_eq!(set.contains(probe), expected, "{probe} in {ranges:?}");
                *if expected { &mut inside } else { &mut outside } += 1;
            }
        }
        assert!(inside > 3000 && outside > 3000, "{inside} {outside}");
    }

    #[test]
    fn ten_thousand_entries_stay_sorted_and_disjoint() {
        let entry = |index: u32| Ipv4Addr::from_bits(index * 4);
        let entries: Vec<String> = (0..10_000).rev().map(|index| entry(index).to_string()).collect();
        let list = list(&entries.join(","));
        assert_eq!(list.set.0.len(), 10_000);
        assert!(list.set.0.is_sorted_by(|before, after| before.broadcast() < after.network()));
        for index in 0..10_000 {
            assert!(list.contains(entry(index).into()));
            assert!(!list.contains(Ipv4Addr::from_bits(index * 4 + 1).into()));
        }
    }

    #[test]
    fn neighbouring_entries_become_one_network() {
        let set = list("10.0.0.0/9,10.128.0.0/9,2001:db8::/33,2001:db8:8000::/33").set;
        assert_eq!(set.0, ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap()));
    }
}
