//! The end of a connection: GOAWAY was sent, and requests in transit still get their answers.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Time for requests that were in transit when nodegate sent GOAWAY.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// GOAWAY was sent. The connection closes even if the client ignores it.
pub(super) struct GracefulShutdown {
    since: Instant,
    /// time of the last response
    answered: Instant,
}

impl GracefulShutdown {
    pub(super) fn now() -> Self {
        let now = Instant::now();
        Self { since: now, answered: now }
    }

    pub(super) fn answered(&mut self) {
        self.answered = Instant::now();
    }

    /// Whether a new request cannot have been in transit.
    pub(super) fn is_over(&self) -> bool {
        self.since.elapsed() > SHUTDOWN_TIMEOUT
    }

    pub(super) async fn done(&self) {
        sleep_until(self.answered + SHUTDOWN_TIMEOUT).await;
    }
}
