//! Limits long targets of unauthenticated clients, so that a client cannot fill the disk. Each request still has its
//! line.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Bytes of a target that need no allowance.
pub(super) const SHORT_TARGET_BYTES: usize = 128;
/// Bytes of longer targets that a network may have in the log in a second.
const BYTES_PER_SECOND: usize = 64 << 10;
/// The same for all networks together.
const TOTAL_BYTES_PER_SECOND: usize = 1 << 20;

/// Bytes of long targets that were logged in the current second.
#[derive(Default)]
pub(super) struct LongTargetAllowance {
    second: i64,
    total: usize,
    /// At most `TOTAL_BYTES_PER_SECOND / SHORT_TARGET_BYTES` networks: each has logged more than a short target.
    used: HashMap<IpAddr, usize>,
}

impl LongTargetAllowance {
    /// The number of bytes of a target with `bytes` that are logged for an address, at most `limit`.
    pub fn take(&mut self, address: IpAddr, bytes: usize, limit: usize, second: i64) -> usize {
        let wanted = bytes.min(limit);
        if wanted <= SHORT_TARGET_BYTES {
            return limit;
        }
        if self.second != second {
            *self = Self { second, ..Self::default() };
        }
        if self.total + wanted > TOTAL_BYTES_PER_SECOND {
            return SHORT_TARGET_BYTES;
        }
        let used = self.used.entry(network(address)).or_default();
        if *used + wanted > BYTES_PER_SECOND {
            return SHORT_TARGET_BYTES;
        }
        *used += wanted;
        self.total += wanted;
        limit
    }
}

/// An IPv4 address, or the /48 of an IPv6 one: one site may have all of that.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_targets_are_limited_per_address_and_second() {
        let (mut allowance, address) = (LongTargetAllowance::default(), "192.0.2.1".parse().unwrap());
        for _ in 0..64 {
            assert_eq!(allowance.take(address, 8000, 1024, 1), 1024);
        }
        assert_eq!(allowance.take(address, 8000, 1024, 1), SHORT_TARGET_BYTES);
        assert_eq!(allowance.take(address, 100, 1024, 1), 1024, "it is short");
        assert_eq!(allowance.take("192.0.2.2".parse().unwrap(), 8000, 1024, 1), 1024);
        assert_eq!(allowance.take(address, 8000, 1024, 2), 1024);
    }

    #[test]
    fn all_addresses_together_have_a_bound() {
        let mut allowance = LongTargetAllowance::default();
        let long = |allowance: &mut LongTargetAllowance, second| {
            let addresses = (0..5000_u32).map(std::net::Ipv4Addr::from);
            addresses.filter(|it| allowance.take((*it).into(), 8000, 1024, second) == 1024).count()
        };
        assert_eq!(long(&mut allowance, 1), 1024);
        assert_eq!(allowance.used.len(), 1024);
        assert_eq!((long(&mut allowance, 1), long(&mut allowance, 2)), (0, 1024));
    }

    #[test]
    fn an_ipv6_site_has_one_allowance() {
        let mut allowance = LongTargetAllowance::default();
        let address = |site: u16, number: u16| Ipv6Addr::new(0x2001, 0xdb8, site, number, 0, 0, 0, 1).into();
        let long = (0..5000).filter(|number| allowance.take(address(1, *number), 8000, 1024, 1) == 1024);
        assert_eq!(long.count(), 64);
        assert_eq!(allowance.take(address(2, 0), 8000, 1024, 1), 1024);
    }
}
