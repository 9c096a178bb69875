//! The rate of requests to the two servers: every request of the command waits here for its turn.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

pub(crate) struct RequestRate {
    interval: Duration,
    next: Mutex<Instant>,
}

impl RequestRate {
    pub(crate) fn new(per_second: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Turns are at least an interval apart. Idle time allows no burst.
    pub(crate) async fn turn(&self) {
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        *next = Instant::now() + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_are_an_interval_apart() {
        let (rate, interval) = (RequestRate::new(20), Duration::from_millis(50));
        let began = Instant::now();
        for _ in 0..4 {
            rate.turn().await;
        }
        assert!(began.elapsed() >= 3 * interval);
        tokio::time::sleep(4 * interval).await;
        let began = Instant::now();
        for _ in 0..3 {
            rate.turn().await;
        }
        assert!(began.elapsed() >= 2 * interval, "a pause allows no burst");
    }
}
