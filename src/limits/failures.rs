//! Failed logins by where they came from: who is kept waiting for how long, and who is not heard at all. Addresses and
//! times come in as values. Nothing is ever counted by user name: anybody could lock out anybody.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

/// What the answer to a failed login waits for at least, from the beginning of its request.
pub const FIRST_DELAY: Duration = Duration::from_secs(3);
/// After each so many failures the answers wait for another `FIRST_DELAY`.
const STEP: u32 = 5;
const LONGEST_DELAY: Duration = Duration::from_secs(15);
/// What is counted is forgotten after this.
const WINDOW: Duration = Duration::from_mins(1);
/// Sources that are remembered (about a megabyte); those that were seen least go first.
const SOURCES: usize = 16_384;
/// Requests that wait at the same time: of one source, and of all.
const SEATS_OF_SOURCE: usize = 256;
const SEATS: usize = 4096;

/// What counts as one client: an IPv4 address, or the 64 bits of an IPv6 address that a site is given.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl Source {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// What becomes of an attempt that the daemon would judge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// it may; `end` has to follow
    Go,
    /// so many are being judged that all of them failing would be the limit
    Wait,
    Refused {
        retry_after: Duration,
    },
}

#[derive(Clone, Copy)]
struct Record {
    since: Instant,
    failed: usize,
    /// attempts that are being judged
    running: usize,
    seated: usize,
}

/// The failures of the last minute.
pub struct Failures {
    records: Cache<Source, Record>,
    seated: usize,
}

impl Default for Failures {
    fn default() -> Self {
        Self { records: Cache::new(SOURCES), seated: 0 }
    }
}

impl Failures {
    /// An attempt begins, unless `limit` others failed in the last minute.
    pub fn begin(&mut self, source: Source, limit: usize, now: Instant) -> Verdict {
        self.update(source, now, |record| {
            if record.failed >= limit {
                return Verdict::Refused { retry_after: record.rest(now) };
            }
            if record.failed + record.running >= limit {
                return Verdict::Wait;
            }
            record.running += 1;
            Verdict::Go
        })
    }

    /// An attempt has been judged, or was given up.
    pub fn end(&mut self, source: Source, failed: bool, now: Instant) {
        self.update(source, now, |record| {
            record.running = record.running.saturating_sub(1);
            record.failed += usize::from(failed);
        });
    }

    /// What was judged on the spot has failed.
    pub fn failed(&mut self, source: Source, now: Instant) {
        self.update(source, now, |record| record.failed += 1);
    }

    /// How long a source is not heard any more, if it is over the limit.
    pub fn refused(&mut self, source: Source, limit: usize, now: Instant) -> Option<Duration> {
        self.update(source, now, |record| (record.failed >= limit).then(|| record.rest(now)))
    }

    /// What the answer to a failed attempt waits for, from the beginning of its request.
    pub fn delay(&mut self, source: Source, now: Instant) -> Duration {
        let failed = self.update(source, now, |record| record.failed);
        let steps = u32::try_from(failed).unwrap_or(u32::MAX) / STEP;
        FIRST_DELAY.saturating_mul(steps.saturating_add(1)).min(LONGEST_DELAY)
    }

    /// Room for one more request that waits; whether there was some. `None` stands for those who are not counted.
    pub fn take_seat(&mut self, source: Option<Source>, now: Instant) -> Result<(), NoSeat> {
        if self.seated >= SEATS {
            return Err(NoSeat::ForAnybody);
        }
        if let Some(source) = source {
            self.update(source, now, |record| {
                if record.seated >= SEATS_OF_SOURCE {
                    return Err(NoSeat::ForSource);
                }
                record.seated += 1;
                Ok(())
            })?;
        }
        self.seated += 1;
        Ok(())
    }

    pub fn leave_seat(&mut self, source: Option<Source>, now: Instant) {
        self.seated = self.seated.saturating_sub(1);
        if let Some(source) = source {
            self.update(source, now, |record| record.seated = record.seated.saturating_sub(1));
        }
    }

    fn update<T>(&mut self, source: Source, now: Instant, change: impl FnOnce(&mut Record) -> T) -> T {
        let fresh = Record { since: now, failed: 0, running: 0, seated: 0 };
        let mut record = self.records.get(&source).copied().unwrap_or(fresh);
        if now.saturating_duration_since(record.since) >= WINDOW {
            record = Record { since: now, failed: 0, ..record };
        } else if record.failed == 0 {
            // The minute begins with the first failure.
            record.since = now;
        }
        let outcome = change(&mut record);
        self.records.insert(source, record);
        outcome
    }
}

impl Record {
    fn rest(&self, now: Instant) -> Duration {
        WINDOW.saturating_sub(now.saturating_duration_since(self.since))
    }
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoSeat {
    ForSource,
    ForAnybody,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_a_64_of_ipv6() {
        assert_eq!(source("2001:db8:0:1::1"), source("2001:db8:0:1:ffff::2"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    #[test]
    fn the_limit_of_a_minute_is_refused_until_the_minute_is_over() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let (bad, other) = (source("192.0.2.1"), source("192.0.2.2"));
        for _ in 0..3 {
            assert_eq!(failures.begin(bad, 3, now), Verdict::Go);
            failures.end(bad, true, now);
        }
        let later = now + Duration::from_secs(20);
        let rest = Duration::from_secs(40);
        assert_eq!(failures.begin(bad, 3, later), Verdict::Refused { retry_after: rest });
        assert_eq!(failures.refused(bad, 3, later), Some(rest));
        assert_eq!(failures.refused(other, 3, later), None);
        assert_eq!(failures.begin(bad, 3, now + WINDOW), Verdict::Go);
    }

    #[test]
    fn a_good_login_neither_counts_nor_forgives() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let client = source("192.0.2.1");
        failures.failed(client, now);
        for _ in 0..50 {
            assert_eq!(failures.begin(client, 2, now), Verdict::Go);
            failures.end(client, false, now);
        }
        failures.failed(client, now);
        assert!(failures.refused(client, 2, now).is_some());
    }

    #[test]
    fn attempts_at_once_cannot_pass_the_limit_together() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let client = source("192.0.2.1");
        assert_eq!(failures.begin(client, 2, now), Verdict::Go);
        assert_eq!(failures.begin(client, 2, now), Verdict::Go);
        assert_eq!(failures.begin(client, 2, now), Verdict::Wait);
        failures.end(client, false, now);
        assert_eq!(failures.begin(client, 2, now), Verdict::Go);
        failures.end(client, true, now);
        assert_eq!(failures.begin(client, 2, now), Verdict::Wait);
        failures.end(client, true, now);
        assert!(matches!(failures.begin(client, 2, now), Verdict::Refused { .. }));
    }

    #[test]
    fn what_runs_into_the_next_minute_still_counts_as_running() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let client = source("192.0.2.1");
        assert_eq!(failures.begin(client, 1, now), Verdict::Go);
        assert_eq!(failures.begin(client, 1, now + WINDOW), Verdict::Wait);
        failures.end(client, true, now + WINDOW);
        let retry_after = WINDOW;
        assert_eq!(failures.begin(client, 1, now + WINDOW), Verdict::Refused { retry_after });
    }

    #[test]
    fn delays_grow_and_have_an_end() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let client = source("192.0.2.1");
        let mut after_next = || {
            failures.failed(client, now);
            failures.delay(client, now).as_secs()
        };
        let seconds: Vec<_> = (0..30).map(|_| after_next()).collect();
        let steps = [vec![3; 4], vec![6; 5], vec![9; 5], vec![12; 5], vec![15; 11]];
        assert_eq!(seconds, steps.concat());
        assert_eq!(failures.delay(client, now + WINDOW), FIRST_DELAY);
    }

    #[test]
    fn seats_are_bounded_and_come_back() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let client = Some(source("192.0.2.1"));
        for _ in 0..SEATS_OF_SOURCE {
            failures.take_seat(client, now).unwrap();
        }
        assert_eq!(failures.take_seat(client, now), Err(NoSeat::ForSource));
        for _ in SEATS_OF_SOURCE..SEATS {
            failures.take_seat(None, now).unwrap();
        }
        assert_eq!(failures.take_seat(None, now), Err(NoSeat::ForAnybody));
        failures.leave_seat(client, now);
        assert_eq!(failures.take_seat(client, now), Ok(()));
    }

    #[test]
    fn a_flood_of_sources_takes_no_more_memory_and_hides_nobody_who_comes_again() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let bad = source("192.0.2.1");
        for number in 0..200_000_u32 {
            let address = std::net::Ipv6Addr::from(u128::from(number) << 64);
            failures.failed(Source::of(address.into()), now);
            if number % 1000 == 0 {
                failures.failed(bad, now);
            }
        }
        assert!(failures.records.len() <= SOURCES);
        assert!(failures.refused(bad, 20, now).is_some());
    }
}
