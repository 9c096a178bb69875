//! Deadline for bytes: a time for the first of them, and a minimum rate for the others. A fixed deadline would cut
//! off large bodies on slow lines; a limit of the pause between two bytes would let a client trickle for ever.

use std::time::Duration;

/// With a rate of 0 there is no minimum.
#[derive(Clone, Copy, Debug)]
pub struct MinRate {
    /// longest pause
    pub grace: Duration,
    /// bytes per second
    pub rate: u64,
}

/// The bytes of one transfer, and the time that it waited for its peer.
#[derive(Clone, Copy, Debug)]
pub struct RateTracker {
    limit: MinRate,
    bytes: u64,
    waited: Duration,
}

impl RateTracker {
    pub fn new(limit: MinRate) -> Self {
        Self { limit, bytes: 0, waited: Duration::ZERO }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn add_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub fn add_wait(&mut self, waited: Duration) {
        self.waited = self.waited.saturating_add(waited);
    }

    /// How long all further waits together may last. Without a rate it is the rest of the grace.
    pub fn remaining(&self) -> Duration {
        let earned = self.bytes.saturating_mul(1000).checked_div(self.limit.rate).unwrap_or(0);
        self.limit.grace.saturating_add(Duration::from_millis(earned)).saturating_sub(self.waited)
    }

    /// How long the next wait may last. Without a rate each wait has the whole grace.
    pub fn next_wait(&self) -> Duration {
        if self.limit.rate == 0 { self.limit.grace } else { self.remaining().min(self.limit.grace) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_grows_with_the_bytes() {
        let limit = MinRate { grace: Duration::from_secs(30), rate: 1000 };
        // bytes, milliseconds waited, milliseconds of all waits and of the next one
        for (bytes, waited, remaining, next) in [
            (0, 0, 30_000, 30_000),
            (500, 0, 30_500, 30_000),
            (500, 1000, 29_500, 29_500),
            (60_000, 80_000, 10_000, 10_000),
            (60_000, 91_000, 0, 0),
        ] {
            let mut transfer = RateTracker::new(limit);
            transfer.add_bytes(bytes);
            transfer.add_wait(Duration::from_millis(waited));
            let times = [transfer.remaining(), transfer.next_wait()];
            assert_eq!(times, [remaining, next].map(Duration::from_millis), "{bytes} {waited}");
        }
        let mut transfer = RateTracker::new(MinRate { rate: 0, ..limit });
        transfer.add_bytes(usize::MAX);
        transfer.add_wait(Duration::from_secs(20));
        assert_eq!((transfer.remaining(), transfer.next_wait()), (Duration::from_secs(10), limit.grace));
    }
}
