//! A limit of calls per minute, counted by client address. Addresses and times come in as values.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

use super::LimitExceeded;
use crate::limits::failure_table::ClientKey;

const WINDOW: Duration = Duration::from_mins(1);
/// Limit of remembered clients; the least recently seen go first.
const MAX_SOURCES: usize = 16_384;

/// The calls of the last minute. A number stands for a call.
pub struct CallRates {
    records: Mutex<Cache<(u64, ClientKey), CallRecord>>,
}

#[derive(Clone, Copy)]
struct CallRecord {
    since: Instant,
    made: usize,
}

impl Default for CallRates {
    fn default() -> Self {
        Self { records: Mutex::new(Cache::new(MAX_SOURCES)) }
    }
}

impl CallRates {
    /// Counts a call, unless the minute that began with the first one has `limit` calls already.
    pub fn count(&self, call: u64, address: IpAddr, limit: usize, now: Instant) -> Result<(), LimitExceeded> {
        let place = (call, ClientKey::from_address(address));
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let known = records.get(&place).copied();
        let fresh = CallRecord { since: now, made: 0 };
        let record = known.filter(|it| now.saturating_duration_since(it.since) < WINDOW).unwrap_or(fresh);
        if record.made >= limit {
            let rest = WINDOW.saturating_sub(now.saturating_duration_since(record.since));
            return Err(LimitExceeded::Calls { limit, seconds: rest.as_secs() + 1 });
        }
        records.insert(place, CallRecord { made: record.made + 1, ..record });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_limited_per_client_and_minute() {
        let calls = CallRates::default();
        let begin = Instant::now();
        let [one, two] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let at = |second| begin + Duration::from_secs(second);
        assert_eq!(calls.count(0, one, 2, at(0)), Ok(()));
        assert_eq!(calls.count(0, one, 2, at(30)), Ok(()));
        assert_eq!(calls.count(0, one, 2, at(40)), Err(LimitExceeded::Calls { limit: 2, seconds: 21 }));
        assert_eq!(calls.count(0, two, 2, at(40)), Ok(()));
        assert_eq!(calls.count(1, one, 2, at(40)), Ok(()));
        assert_eq!(calls.count(0, one, 2, at(60)), Ok(()));
    }
}
