//! How long bytes may take: a time for the first of them, and for the others a least rate. A deadline alone would cut off
//! big bodies of slow lines, a pause between two bytes alone would let a drip go on for ever.

use std::time::Duration;

/// A rate of 0 is none.
#[derive(Clone, Copy, Debug)]
pub struct MinRate {
    pub grace: Duration,
    /// bytes a second
    pub rate: u64,
}

impl MinRate {
    /// How long so many bytes may have kept us waiting; `None` for ever, as long as some come.
    pub fn time_for(self, bytes: u64) -> Option<Duration> {
        let milliseconds = bytes.saturating_mul(1000).checked_div(self.rate)?;
        Some(self.grace.saturating_add(Duration::from_millis(milliseconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_grows_with_the_bytes() {
        let pace = MinRate { grace: Duration::from_secs(30), rate: 1000 };
        assert_eq!(pace.time_for(0), Some(Duration::from_secs(30)));
        assert_eq!(pace.time_for(500), Some(Duration::from_millis(30_500)));
        assert_eq!(pace.time_for(60_000), Some(Duration::from_secs(90)));
        assert!(pace.time_for(u64::MAX).is_some());
        assert_eq!(MinRate { rate: 0, ..pace }.time_for(0), None);
    }
}
