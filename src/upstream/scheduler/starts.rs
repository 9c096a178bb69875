//! Virtual starts: the time of workers that clients, or keys, have received.

use std::hash::Hash;
use std::time::{Duration, Instant};

use ahash::HashMap;

/// Starts are dropped when there are this many, if they have been idle for a while.
const MAX_STARTS: usize = 4096;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// The virtual start of the next call of each client, or of each key.
pub(super) struct VirtualStarts<K>(HashMap<K, Start>);

struct Start {
    start: Duration,
    used: Instant,
}

impl<K> Default for VirtualStarts<K> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Copy + Eq + Hash> VirtualStarts<K> {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Zero for a client or key that is not remembered.
    pub(super) fn get(&self, of: K) -> Duration {
        self.find(of).unwrap_or_default()
    }

    /// The start, if it is remembered.
    pub(super) fn find(&self, of: K) -> Option<Duration> {
        self.0.get(&of).map(|known| known.start)
    }

    /// Starts at `virtual_time` or earlier say nothing, so they go first if there are too many.
    pub(super) fn set(&mut self, of: K, start: Duration, virtual_time: Duration, now: Instant) {
        if self.0.len() >= MAX_STARTS && !self.0.contains_key(&of) {
            self.0.retain(|_, known| {
                known.start > virtual_time && now.saturating_duration_since(known.used) < FORGOTTEN_AFTER
            });
            if self.0.len() > MAX_STARTS / 2 {
                self.0.clear();
            }
        }
        self.0.insert(of, Start { start, used: now });
    }

    /// Replaces a charge by the cost, but not below the virtual time.
    pub(super) fn correct(&mut self, of: K, charged: Duration, cost: Duration, virtual_time: Duration) {
        if let Some(known) = self.0.get_mut(&of) {
            known.start = (known.start + cost).saturating_sub(charged).max(virtual_time);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
