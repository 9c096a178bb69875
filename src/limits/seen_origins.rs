//! Origins that the log has named, so that each is named once an hour. Times come in as values.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

const PAUSE: Duration = Duration::from_hours(1);
/// Origins that are remembered; those that were seen least go first.
const ORIGINS: usize = 1024;

/// When each origin was named last.
pub struct SeenOrigins {
    named: Mutex<Cache<Box<str>, Instant>>,
}

impl Default for SeenOrigins {
    fn default() -> Self {
        Self { named: Mutex::new(Cache::new(ORIGINS)) }
    }
}

impl SeenOrigins {
    /// Whether the log is to name it now.
    pub fn is_due(&self, origin: &str, now: Instant) -> bool {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |before: &Instant| now.saturating_duration_since(*before) < PAUSE;
        if named.get(origin).is_some_and(is_recent) {
            return false;
        }
        named.insert(origin.into(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_origin_is_named_once_an_hour() {
        let seen = SeenOrigins::default();
        let begin = Instant::now();
        let at = |minute| begin + Duration::from_mins(minute);
        assert!(seen.is_due("https://a", at(0)) && seen.is_due("https://b", at(1)));
        assert!(!seen.is_due("https://a", at(59)) && seen.is_due("https://a", at(60)));
        assert!(!seen.is_due("https://b", at(60)) && seen.is_due("https://b", at(61)));
        for number in 0..10 * ORIGINS {
            seen.is_due(&number.to_string(), at(61));
        }
        assert!(seen.named.lock().is_ok_and(|named| named.len() <= ORIGINS));
    }
}
