//! Long targets of strangers: one who asks in a row must not fill the disk. Each request still has its line.

use std::collections::HashMap;
use std::net::IpAddr;

/// Bytes of a target that need no allowance.
pub(super) const SHORT_TARGET_BYTES: usize = 128;
/// Bytes of longer targets that an address may have in the log in a second.
const BYTES_PER_SECOND: usize = 64 << 10;
/// Addresses that are told apart in a second; for others, targets are short.
const MAX_ADDRESSES: usize = 1024;

/// What strangers have written in the current second.
#[derive(Default)]
pub(super) struct Allowance {
    second: i64,
    used: HashMap<IpAddr, usize>,
}

impl Allowance {
    /// How much of a target of so many bytes is logged for an address, if it is `limit` at most.
    pub(super) fn take(&mut self, address: IpAddr, bytes: usize, limit: usize, second: i64) -> usize {
        let wanted = bytes.min(limit);
        if wanted <= SHORT_TARGET_BYTES {
            return limit;
        }
        if self.second != second {
            self.second = second;
            self.used.clear();
        }
        if self.used.len() >= MAX_ADDRESSES && !self.used.contains_key(&address) {
            return SHORT_TARGET_BYTES;
        }
        let used = self.used.entry(address).or_default();
        if *used + wanted > BYTES_PER_SECOND {
            return SHORT_TARGET_BYTES;
        }
        *used += wanted;
        limit
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_has_so_many_long_targets_a_second() {
        let (mut allowance, address) = (Allowance::default(), "192.0.2.1".parse().unwrap());
        for _ in 0..64 {
            assert_eq!(allowance.take(address, 8000, 1024, 1), 1024);
        }
        assert_eq!(allowance.take(address, 8000, 1024, 1), SHORT_TARGET_BYTES);
        assert_eq!(allowance.take(address, 100, 1024, 1), 1024, "it is short");
        assert_eq!(allowance.take("192.0.2.2".parse().unwrap(), 8000, 1024, 1), 1024);
        assert_eq!(allowance.take(address, 8000, 1024, 2), 1024);
    }

    #[test]
    fn many_addresses_take_bounded_memory() {
        let mut allowance = Allowance::default();
        for number in 0..5000_u32 {
            let limit = allowance.take(std::net::Ipv4Addr::from(number).into(), 1000, 1024, 1);
            let is_known = usize::try_from(number).unwrap() < MAX_ADDRESSES;
            assert_eq!(limit, if is_known { 1024 } else { SHORT_TARGET_BYTES });
        }
        assert_eq!(allowance.used.len(), MAX_ADDRESSES);
    }
}
