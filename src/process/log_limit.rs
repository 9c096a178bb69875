//! Warnings that many requests can cause at once: a few lines for each cause, then a count of the others.

use std::collections::HashMap;
use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

const LINES_PER_INTERVAL: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(10);
const MAX_CAUSES: usize = 256;

static RECENT: LazyLock<Mutex<Recent>> = LazyLock::new(Mutex::default);

/// The lines of the interval that each cause is in.
#[derive(Default)]
struct Recent(HashMap<String, Interval>);

struct Interval {
    began: Instant,
    lines: u32,
    left_out: u64,
}

/// Logs a warning unless `cause` has had its lines for the moment. The debug log has all of them.
pub fn warn(cause: &str, message: &dyn fmt::Display) {
    let admitted = RECENT.lock().unwrap_or_else(PoisonError::into_inner).admit(cause, Instant::now());
    match admitted {
        Some(0) => tracing::warn!("{message}"),
        Some(left_out) => tracing::warn!("{message} ({left_out} more of this kind were not logged)"),
        None => tracing::debug!("{message}"),
    }
}

impl Recent {
    /// How many lines were left out before, if one may be logged now.
    fn admit(&mut self, cause: &str, now: Instant) -> Option<u64> {
        if !self.0.contains_key(cause) && self.0.len() >= MAX_CAUSES {
            self.0.retain(|_, interval| now.saturating_duration_since(interval.began) < INTERVAL);
            if self.0.len() >= MAX_CAUSES {
                return None;
            }
        }
        let new = || Interval { began: now, lines: 0, left_out: 0 };
        let interval = self.0.entry(cause.to_owned()).or_insert_with(new);
        if now.saturating_duration_since(interval.began) >= INTERVAL {
            (interval.began, interval.lines) = (now, 0);
        }
        if interval.lines >= LINES_PER_INTERVAL {
            interval.left_out += 1;
            return None;
        }
        interval.lines += 1;
        Some(std::mem::take(&mut interval.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_lines_in_each_interval() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        for _ in 0..LINES_PER_INTERVAL {
            assert_eq!(recent.admit("daemon", now), Some(0));
        }
        assert_eq!([recent.admit("daemon", now), recent.admit("daemon", now)], [None, None]);
        assert_eq!(recent.admit("node 'n2'", now), Some(0));
        assert_eq!(recent.admit("daemon", now + INTERVAL), Some(2), "and those left out are counted");
        assert_eq!(recent.admit("daemon", now + INTERVAL), Some(0));
    }

    #[test]
    fn many_causes_do_not_fill_the_memory() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        for number in 0..2 * MAX_CAUSES {
            let admitted = recent.admit(&number.to_string(), now);
            assert_eq!(admitted.is_some(), number < MAX_CAUSES, "{number}");
        }
        assert_eq!(recent.admit("later", now + INTERVAL), Some(0));
        assert_eq!(recent.0.len(), 1);
    }
}
