//! TLS handshakes of addresses whose connections nodegate keeps rejecting. A full handshake costs about a millisecond of
//! CPU, so clients that reconnect after each rejection could fill a core. Their handshakes share a fixed rate; those of
//! other addresses never wait. Addresses and times come in as values.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

use crate::limits::failure_table::ClientKey;

/// Rejections of one address within `WINDOW` before its handshakes wait.
const MAX_REJECTIONS: u32 = 8;
const WINDOW: Duration = Duration::from_secs(10);
/// Between two handshakes of such addresses: 64 handshakes a second are about 6 % of a core with RSA.
const HANDSHAKE_INTERVAL: Duration = Duration::from_micros(15_625);
/// Limit of remembered addresses; the least recently seen go first.
const MAX_ADDRESSES: usize = 16_384;

/// The rejections of the last seconds, and the next handshake of the addresses that they came from.
pub struct HandshakeBudget {
    state: Mutex<BudgetState>,
}

struct BudgetState {
    rejections: Cache<ClientKey, Rejections>,
    /// the earliest time of the next handshake
    next: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Rejections {
    since: Instant,
    count: u32,
}

impl Default for HandshakeBudget {
    fn default() -> Self {
        Self { state: Mutex::new(BudgetState { rejections: Cache::new(MAX_ADDRESSES), next: None }) }
    }
}

impl HandshakeBudget {
    /// Counts a rejected connection of `client`.
    pub fn count_rejection(&self, client: ClientKey, now: Instant) {
        let mut state = self.lock();
        let rejections = state.rejections_of(client, now);
        let count = rejections.count.saturating_add(1);
        state.rejections.insert(client, Rejections { count, ..rejections });
    }

    /// The time until `client` may begin its handshake, at most `longest`. `None` if it would have to wait longer; then
    /// its connection has to close.
    pub fn reserve(&self, client: ClientKey, longest: Duration, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        if state.rejections_of(client, now).count < MAX_REJECTIONS {
            return Some(Duration::ZERO);
        }
        let begin = state.next.map_or(now, |next| next.max(now));
        let delay = begin.saturating_duration_since(now);
        if delay > longest {
            return None;
        }
        state.next = Some(begin + HANDSHAKE_INTERVAL);
        Some(delay)
    }

    fn lock(&self) -> MutexGuard<'_, BudgetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BudgetState {
    fn rejections_of(&mut self, client: ClientKey, now: Instant) -> Rejections {
        let known = self.rejections.get(&client).copied();
        known
            .filter(|it| now.saturating_duration_since(it.since) < WINDOW)
            .unwrap_or(Rejections { since: now, count: 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const MAX_WAIT: Duration = Duration::from_secs(10);

    fn client(last: u8) -> ClientKey {
        ClientKey::from_address(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn rejected_addresses_share_a_rate_of_handshakes() {
        let (budget, now) = (HandshakeBudget::default(), Instant::now());
        for last in [1, 2] {
            for _ in 0..MAX_REJECTIONS {
                assert_eq!(budget.reserve(client(last), MAX_WAIT, now), Some(Duration::ZERO));
                budget.count_rejection(client(last), now);
            }
        }
        let delays = [1, 2, 1].map(|last| budget.reserve(client(last), MAX_WAIT, now));
        assert_eq!(delays, [0, 1, 2].map(|turn| Some(turn * HANDSHAKE_INTERVAL)));
        assert_eq!(budget.reserve(client(3), MAX_WAIT, now), Some(Duration::ZERO));
        assert_eq!(budget.reserve(client(1), HANDSHAKE_INTERVAL, now), None);
        let later = now + WINDOW;
        assert_eq!(budget.reserve(client(1), MAX_WAIT, later), Some(Duration::ZERO));
    }

    #[test]
    fn a_flood_gets_no_more_than_the_rate() {
        let (budget, start) = (HandshakeBudget::default(), Instant::now());
        let mut begun = 0;
        for millisecond in 0..20_000_u64 {
            let now = start + Duration::from_millis(millisecond);
            budget.count_rejection(client(1), now);
            let delay = budget.reserve(client(1), MAX_WAIT, now);
            begun += u32::from(delay.is_some_and(|delay| now + delay < start + Duration::from_secs(20)));
        }
        assert!((1270..1300).contains(&begun), "{begun} handshakes in 20 s");
    }
}
