//! What the log has named, such as an origin, so that each is named once an hour. Times come in as values.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

const PAUSE: Duration = Duration::from_hours(1);
/// Subjects that are remembered; those that were seen least go first.
const SUBJECTS: usize = 1024;

/// When each subject was named last.
pub struct HourlyNotices {
    named: Mutex<Cache<Box<str>, Instant>>,
}

impl Default for HourlyNotices {
    fn default() -> Self {
        Self { named: Mutex::new(Cache::new(SUBJECTS)) }
    }
}

impl HourlyNotices {
    /// Whether the log is to name it now.
    pub fn is_due(&self, subject: &str, now: Instant) -> bool {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |before: &Instant| now.saturating_duration_since(*before) < PAUSE;
        if named.get(subject).is_some_and(is_recent) {
            return false;
        }
        named.insert(subject.into(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_is_named_once_an_hour() {
        let seen = HourlyNotices::default();
        let begin = Instant::now();
        let at = |minute| begin + Duration::from_mins(minute);
        assert!(seen.is_due("https://a", at(0)) && seen.is_due("https://b", at(1)));
        assert!(!seen.is_due("https://a", at(59)) && seen.is_due("https://a", at(60)));
        assert!(!seen.is_due("https://b", at(60)) && seen.is_due("https://b", at(61)));
        for number in 0..10 * SUBJECTS {
            seen.is_due(&number.to_string(), at(61));
        }
        assert!(seen.named.lock().is_ok_and(|named| named.len() <= SUBJECTS));
    }
}
