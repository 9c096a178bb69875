//! Times as the products count them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Whole seconds since 1970; 0 for an earlier time.
pub fn unix_time(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
