//! Limits of the rate of calls. Clients and times come in as values.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

use super::LimitExceeded;
use crate::limits::failure_table::ClientKey;

/// Limit of remembered sources; the least recently seen go first.
const MAX_SOURCES: usize = 16_384;

/// The calls that count together towards one limit.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CountedCalls {
    /// one call of a route scope, by client address
    OfScope { call: u64, client: ClientKey },
}

impl CountedCalls {
    pub fn of_scope(call: u64, address: IpAddr) -> Self {
        Self::OfScope { call, client: ClientKey::from_address(address) }
    }

    /// The time that a limit is for.
    fn window(self) -> Duration {
        match self {
            Self::OfScope { .. } => Duration::from_mins(1),
        }
    }

    fn rule(self, limit: usize) -> String {
        match self {
            Self::OfScope { .. } => format!("this call may be made {limit} times a minute"),
        }
    }
}

/// One call too many.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}; try again in {seconds} s", calls.rule(*.limit))]
pub struct RateExceeded {
    calls: CountedCalls,
    limit: usize,
    /// until the next call is accepted
    pub(super) seconds: u64,
}

/// The calls of each source in its current window.
pub struct CallRates {
    records: Mutex<Cache<CountedCalls, CallRecord>>,
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
    /// Counts a call.
    ///
    /// # Errors
    /// The window that began with the first call has `limit` calls already.
    pub fn count(&self, calls: CountedCalls, limit: usize, now: Instant) -> Result<(), LimitExceeded> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, window) = (records.get(&calls).copied(), calls.window());
        let fresh = CallRecord { since: now, made: 0 };
        let record = known.filter(|it| now.saturating_duration_since(it.since) < window).unwrap_or(fresh);
        if record.made >= limit {
            let rest = window.saturating_sub(now.saturating_duration_since(record.since));
            return Err(LimitExceeded::Calls(RateExceeded { calls, limit, seconds: rest.as_secs() + 1 }));
        }
        records.insert(calls, CallRecord { made: record.made + 1, ..record });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_limited_per_client_and_minute() {
        let rates = CallRates::default();
        let begin = Instant::now();
        let [one, two] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let count = |call, address, second| {
            let calls = CountedCalls::of_scope(call, address);
            rates.count(calls, 2, begin + Duration::from_secs(second)).map_err(|error| error.to_string())
        };
        assert_eq!(count(0, one, 0), Ok(()));
        assert_eq!(count(0, one, 30), Ok(()));
        let message = "this call may be made 2 times a minute; try again in 21 s";
        assert_eq!(count(0, one, 40), Err(message.to_owned()));
        assert_eq!(count(0, two, 40), Ok(()));
        assert_eq!(count(1, one, 40), Ok(()));
        assert_eq!(count(0, one, 60), Ok(()));
    }
}
