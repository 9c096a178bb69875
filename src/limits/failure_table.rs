//! Failed logins by client address: the delay of answers, and the clients that nodegate rejects. Addresses and times
//! come in as values. User names are never counted, because with them one client could lock out every user.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

use super::LimitExceeded;
use super::recent_failures::RecentFailures;
use super::shares::{ListenerShare, ListenerShares};

/// Minimum delay of the answer to a failed login, from the beginning of its request.
pub const FIRST_DELAY: Duration = Duration::from_secs(3);
/// Each further 5 failures add `FIRST_DELAY` to the delay.
const FAILURES_PER_STEP: u32 = 5;
const MAX_DELAY: Duration = Duration::from_secs(15);
/// Failures are forgotten after this time.
const WINDOW: Duration = Duration::from_mins(1);
/// Limit of remembered clients (about a megabyte); the least recently seen go first.
const MAX_SOURCES: usize = 16_384;
/// Limit of requests of all clients that wait at the same time.
const MAX_WAITING: usize = 4096;

/// The key of one client: an IPv4 address, or the /64 that a site gets.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ClientKey {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl ClientKey {
    pub fn from_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }

    /// The client itself, and the /56 and the /48 of an IPv6 address: often a single site has the whole of them. The
    /// addresses of an IPv4 /24 mostly belong to different customers, so they are not counted together.
    pub(super) fn levels(self) -> [Option<Self>; LEVELS.len()] {
        match self {
            Self::V4(_) => [Some(self), None, None],
            Self::V6([a, b, c, d]) => {
                [Some(self), Some(Self::V6([a, b, c, d & 0xff00])), Some(Self::V6([a, b, c, 0]))]
            }
        }
    }
}

/// The limits of a client, or of a wider network that holds it.
struct AddressLevel {
    /// the limit of failures, as a multiple of the setting
    factor: usize,
    /// failures beyond this multiple do not count for the next wider network, so one network cannot lock out its
    /// neighbours
    share: usize,
    /// limit of requests that wait at the same time
    wait_slots: usize,
}

/// By client, /56 and /48.
const LEVELS: [AddressLevel; 3] = [
    AddressLevel { factor: 1, share: 1, wait_slots: 256 },
    AddressLevel { factor: 10, share: 5, wait_slots: 512 },
    AddressLevel { factor: 10, share: 10, wait_slots: 1024 },
];

/// The admission of an attempt that the daemon would verify.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttemptVerdict {
    /// the attempt may begin; `end` has to follow
    Go,
    /// if all the running attempts failed, the limit would be reached
    Wait,
    Refused {
        retry_after: Duration,
    },
}

#[derive(Clone, Copy)]
struct FailureRecord {
    since: Instant,
    failed: usize,
    /// attempts that the daemon is verifying
    running: usize,
    seated: usize,
}

/// The failures of the last minute.
pub struct FailureTable {
    /// one cache for each level, so that a flood of clients evicts no network
    records: [Cache<ClientKey, FailureRecord>; LEVELS.len()],
    seated: ListenerShares,
    recent: RecentFailures,
}

impl Default for FailureTable {
    fn default() -> Self {
        let records = std::array::from_fn(|_| Cache::new(MAX_SOURCES));
        Self { records, seated: ListenerShares::default(), recent: RecentFailures::default() }
    }
}

impl FailureTable {
    /// Begins an attempt, unless `limit` others failed in the last minute.
    pub fn begin(&mut self, source: ClientKey, limit: usize, now: Instant) -> AttemptVerdict {
        if let Some(retry_after) = self.rejected_for(source, limit, now) {
            return AttemptVerdict::Refused { retry_after };
        }
        let mut is_full = false;
        self.change_levels(source, now, |level, record| {
            is_full |= record.failed + record.running >= limit.saturating_mul(level.factor);
        });
        if is_full {
            return AttemptVerdict::Wait;
        }
        self.change_levels(source, now, |_, record| record.running += 1);
        AttemptVerdict::Go
    }

    /// Ends an attempt that was verified or given up.
    pub fn end(&mut self, source: ClientKey, now: Instant) {
        self.change_levels(source, now, |_, record| {
            record.running = record.running.saturating_sub(1);
        });
    }

    pub fn count_failure(&mut self, source: ClientKey, limit: usize, now: Instant) {
        self.recent.count(source, now);
        self.change_levels_while(source, now, |level, record| {
            record.failed += 1;
            record.failed <= limit.saturating_mul(level.share)
        });
    }

    /// The clients with recent failures, for the admin.
    pub fn recent(&self) -> &RecentFailures {
        &self.recent
    }

    /// How long nodegate rejects a source, if it or a network that holds it is over the limit.
    pub fn rejected_for(&mut self, source: ClientKey, limit: usize, now: Instant) -> Option<Duration> {
        let mut rest = None;
        self.change_levels(source, now, |level, record| {
            if record.failed >= limit.saturating_mul(level.factor) {
                let since = now.saturating_duration_since(record.since);
                rest = rest.max(Some(WINDOW.saturating_sub(since)));
            }
        });
        rest
    }

    /// Minimum delay of the answer to a failed attempt, from the beginning of its request.
    pub fn delay(&mut self, source: ClientKey, now: Instant) -> Duration {
        let mut failed = 0;
        self.change_levels_while(source, now, |_, record| {
            failed = record.failed;
            false
        });
        let steps = u32::try_from(failed).unwrap_or(u32::MAX) / FAILURES_PER_STEP;
        FIRST_DELAY.saturating_mul(steps.saturating_add(1)).min(MAX_DELAY)
    }

    /// Registers a request that waits. `None` stands for clients that are not counted.
    ///
    /// # Errors
    /// The limit of waiting requests is reached: that of the client or its networks, or that of all.
    pub fn take_wait_slot(
        &mut self,
        source: Option<ClientKey>,
        at: &ListenerShare,
        now: Instant,
    ) -> Result<(), LimitExceeded> {
        if !self.seated.has_room(at, MAX_WAITING) {
            return Err(LimitExceeded::Waiting);
        }
        if let Some(source) = source {
            let mut is_full = false;
            self.change_levels(source, now, |level, record| is_full |= record.seated >= level.wait_slots);
            if is_full {
                return Err(LimitExceeded::LoginsOfAddress);
            }
            self.change_levels(source, now, |_, record| record.seated += 1);
        }
        self.seated.take(&at.listener);
        Ok(())
    }

    pub fn free_wait_slot(&mut self, source: Option<ClientKey>, at: &ListenerShare, now: Instant) {
        self.seated.give_back(&at.listener);
        if let Some(source) = source {
            self.change_levels(source, now, |_, record| {
                record.seated = record.seated.saturating_sub(1);
            });
        }
    }

    /// Changes the records of a client and of the wider networks.
    fn change_levels(
        &mut self,
        source: ClientKey,
        now: Instant,
        mut change: impl FnMut(&AddressLevel, &mut FailureRecord),
    ) {
        self.change_levels_while(source, now, |level, record| {
            change(level, record);
            true
        });
    }

    /// Changes the record of a client, then those of the wider networks while `change` returns true.
    fn change_levels_while(
        &mut self,
        source: ClientKey,
        now: Instant,
        mut change: impl FnMut(&AddressLevel, &mut FailureRecord) -> bool,
    ) {
        for ((level, records), source) in LEVELS.iter().zip(&mut self.records).zip(source.levels()) {
            let Some(source) = source else { return };
            let fresh = FailureRecord { since: now, failed: 0, running: 0, seated: 0 };
            let mut record = records.get(&source).copied().unwrap_or(fresh);
            if now.saturating_duration_since(record.since) >= WINDOW {
                record = FailureRecord { since: now, failed: 0, ..record };
            } else if record.failed == 0 {
                // The minute begins with the first failure.
                record.since = now;
            }
            let concerns_wider = change(level, &mut record);
            records.insert(source, record);
            if !concerns_wider {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> ClientKey {
        ClientKey::from_address(text.parse().unwrap())
    }

    #[test]
    fn clients_group_by_ipv4_or_ipv6_64() {
        assert_eq!(source("2001:db8:0:1::1"), source("2001:db8:0:1:ffff::2"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    #[test]
    fn the_limit_holds_until_the_minute_ends() {
        let (mut failures, now) = (FailureTable::default(), Instant::now());
        let (bad, other) = (source("192.0.2.1"), source("192.0.2.2"));
        for _ in 0..3 {
            assert_eq!(failures.begin(bad, 3, now), AttemptVerdict::Go);
            failures.count_failure(bad, 3, now);
            failures.end(bad, now);
        }
        let later = now + Duration::from_secs(20);
        let rest = Duration::from_secs(40);
        assert_eq!(failures.begin(bad, 3, later), AttemptVerdict::Refused { retry_after: rest });
        assert_eq!(failures.rejected_for(bad, 3, later), Some(rest));
        assert_eq!(failures.rejected_for(other, 3, later), None);
        assert_eq!(failures.begin(bad, 3, now + WINDOW), AttemptVerdict::Go);
    }

    #[test]
    fn a_good_login_neither_counts_nor_forgives() {
        let (mut failures, now) = (FailureTable::default(), Instant::now());
        let client = source("192.0.2.1");
        failures.count_failure(client, 2, now);
        for _ in 0..50 {
            assert_eq!(failures.begin(client, 2, now), AttemptVerdict::Go);
            failures.end(client, now);
        }
        failures.count_failure(client, 2, now);
        assert!(failures.rejected_for(client, 2, now).is_some());
    }

    #[test]
    fn attempts_at_once_cannot_pass_the_limit_together() {
        let (mut failures, now) = (FailureTable::default(), Instant::now());
        let client = source("192.0.2.1");
        assert_eq!(failures.begin(client, 2, now), AttemptVerdict::Go);
        assert_eq!(failures.begin(client, 2, now), AttemptVerdict::Go);
        assert_eq!(failures.begin(client, 2, now), AttemptVerdict::Wait);
        failures.end(client, now);
        assert_eq!(failures.begin(client, 2, now), AttemptVerdict::Go);
        failures.count_failure(client, 2, now);
        failures.end(client, now);
        assert_eq!(failures.begin(client, 2, now), AttemptVerdict::Wait);
        failures.count_failure(client, 2, now);
        failures.end(client, now);
        assert!(matches!(failures.begin(client, 2, now), AttemptVerdict::Refused { .. }));
    }

    #[test]
    fn running_attempts_count_in_the_next_minute() {
        let (mut failures, now) = (FailureTable::default(), Instant::now());
        let client = source("192.0.2.1");
        assert_eq!(failures.begin(client, 1, now), AttemptVerdict::Go);
        assert_eq!(failures.begin(client, 1, now + WINDOW), AttemptVerdict::Wait);
        failures.count_failure(client, 1, now + WINDOW);
        failures.end(client, now + WINDOW);
        let retry_after = WINDOW;
        assert_eq!(failures.begin(client, 1, now + WINDOW), AttemptVerdict::Refused { retry_after });
    }

    #[test]
    fn delays_grow_and_have_an_end() {
        let (mut failures, now) = (FailureTable::default(), Instant::now());
        let client = source("192.0.2.1");
        let mut after_next = || {
            failures.count_failure(client, 20, now);
            failures.delay(client, now).as_secs()
        };
        let seconds: Vec<_> = (0..30).map(|_| after_next()).collect();
        let steps = [vec![3; 4], vec![6; 5], vec![9; 5], vec![12; 5], vec![15; 11]];
        assert_eq!(seconds, steps.concat());
        assert_eq!(failures.delay(client, now + WINDOW), FIRST_DELAY);
    }

    fn at(listener: &str) -> ListenerShare {
        ListenerShare { listener: listener.into(), listeners: 1 }
    }

    #[test]
    fn one_listener_cannot_take_all_wait_slots() {
        let (mut failures, now) = (FailureTable::default(), Instant::now());
        let [public, own] = ["public", "listen"].map(|name| ListenerShare { listeners: 2, ..at(name) });
        let mut seated = |at: &ListenerShare| {
            (0..MAX_WAITING).filter(|_| failures.take_wait_slot(None, at, now).is_ok()).count()
        };
        assert_eq!([seated(&public), seated(&own)], [MAX_WAITING / 8 * 7, MAX_WAITING / 8]);
    }

    #[test]
    fn wait_slots_are_bounded_and_returned() {
        let (mut failures, now) = (FailureTable::default(), Instant::now());
        let client = Some(source("192.0.2.1"));
        for _ in 0..LEVELS[0].wait_slots {
            failures.take_wait_slot(client, &at("listen"), now).unwrap();
        }
        assert_eq!(failures.take_wait_slot(client, &at("listen"), now), Err(LimitExceeded::LoginsOfAddress));
        for _ in LEVELS[0].wait_slots..MAX_WAITING {
            failures.take_wait_slot(None, &at("listen"), now).unwrap();
        }
        assert_eq!(failures.take_wait_slot(None, &at("listen"), now), Err(LimitExceeded::Waiting));
        failures.free_wait_slot(client, &at("listen"), now);
        assert_eq!(failures.take_wait_slot(client, &at("listen"), now), Ok(()));
    }

    #[test]
    fn many_sources_stay_bounded_and_hide_none() {
        let (mut failures, now) = (FailureTable::default(), Instant::now());
        let bad = source("192.0.2.1");
        for number in 0..200_000_u32 {
            let address = std::net::Ipv6Addr::from(u128::from(number) << 64);
            failures.count_failure(ClientKey::from_address(address.into()), 20, now);
            if number % 1000 == 0 {
                failures.count_failure(bad, 20, now);
            }
        }
        assert!(failures.records.iter().all(|records| records.len() <= MAX_SOURCES));
        assert!(failures.rejected_for(bad, 20, now).is_some());
    }

    /// One of the 256 /64 in each of the 256 /56 of the /48.
    fn site(network: u8, site: u8) -> ClientKey {
        source(&format!("2001:db8:1:{network:02x}{site:02x}::1"))
    }

    #[test]
    fn a_network_has_ten_times_the_limit() {
        let now = Instant::now();
        for wide in [|number| site(0, number), |number| site(number, 0)] {
            let mut failures = FailureTable::default();
            for number in 0..20 {
                assert_eq!(failures.rejected_for(wide(200), 2, now), None, "after {number}");
                failures.count_failure(wide(number), 2, now);
            }
            assert_eq!(failures.begin(wide(200), 2, now), AttemptVerdict::Refused { retry_after: WINDOW });
            assert_eq!(failures.rejected_for(source("2001:db8:2::1"), 2, now), None);
            assert_eq!(failures.begin(wide(200), 2, now + WINDOW), AttemptVerdict::Go);
        }
    }

    #[test]
    fn attempts_at_once_count_for_the_network() {
        let (mut failures, now) = (FailureTable::default(), Instant::now());
        for number in 0..20 {
            assert_eq!(failures.begin(site(0, number), 2, now), AttemptVerdict::Go);
        }
        assert_eq!(failures.begin(site(0, 200), 2, now), AttemptVerdict::Wait);
        failures.end(site(0, 0), now);
        assert_eq!(failures.begin(site(0, 200), 2, now), AttemptVerdict::Go);
    }

    #[test]
    fn one_network_locks_out_no_neighbour() {
        let (mut failures, now) = (FailureTable::default(), Instant::now());
        for _ in 0..1000 {
            failures.count_failure(site(0, 0), 2, now);
        }
        assert_eq!(failures.rejected_for(site(0, 1), 2, now), None, "one client beyond its own limit");
        for number in 0..=255 {
            failures.count_failure(site(0, number), 2, now);
        }
        assert!(failures.rejected_for(site(0, 1), 2, now).is_some());
        assert_eq!(failures.rejected_for(site(1, 0), 2, now), None);
    }

    #[test]
    fn a_network_cannot_take_every_wait_slot() {
        let (mut failures, now) = (FailureTable::default(), Instant::now());
        let taken = (0..=255).flat_map(|network| (0..10).map(move |number| site(network, number)));
        let seated =
            taken.filter(|client| failures.take_wait_slot(Some(*client), &at("listen"), now).is_ok()).count();
        assert_eq!(seated, LEVELS[2].wait_slots);
        assert_eq!(failures.take_wait_slot(Some(source("192.0.2.1")), &at("listen"), now), Ok(()));
    }
}
