//! Deadline for bytes: a time for the first of them, and a minimum rate for the others. A fixed deadline would cut
//! off large bodies on slow lines; a limit of the pause between two bytes would let a client trickle for ever.

use std::time::Duration;

/// With a rate of 0 there is no minimum.
#[derive(Clone, Copy, Debug)]
pub struct MinRate {
    pub grace: Duration,
    /// bytes per second
    pub rate: u64,
}

impl MinRate {
    /// How long the peer may take for `bytes`; `None` for no limit.
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
