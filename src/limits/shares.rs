//! Permits that all listeners share. Each listener has a part that no other one can take.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// A quarter of all permits is divided between the listeners; the rest is for any of them.
const DIVIDED_DIVISOR: usize = 4;

/// A listener, and how many there are.
#[derive(Clone, Debug)]
pub struct ListenerShare {
    pub listener: Arc<str>,
    pub listeners: usize,
}

/// Permits taken at each listener.
#[derive(Default)]
pub struct ListenerShares {
    pub(super) taken: HashMap<Arc<str>, usize>,
}

impl ListenerShares {
    pub fn taken(&self, listener: &Arc<str>) -> usize {
        self.taken.get(listener).copied().unwrap_or_default()
    }

    /// Whether the listener may take one more of `all` permits.
    pub fn has_room(&self, at: &ListenerShare, all: usize) -> bool {
        let own = if at.listeners < 2 { 0 } else { all / DIVIDED_DIVISOR / at.listeners };
        let common = all.saturating_sub(own * at.listeners);
        let in_common: usize = self.taken.values().map(|taken| taken.saturating_sub(own)).sum();
        self.taken(&at.listener) < own || in_common < common
    }

    pub fn take(&mut self, listener: &Arc<str>) {
        *self.taken.entry(Arc::clone(listener)).or_default() += 1;
    }

    pub fn give_back(&mut self, listener: &Arc<str>) {
        subtract(&mut self.taken, listener, 1);
    }
}

/// Subtracts an amount, and removes a count that reaches 0.
pub(super) fn subtract<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K, amount: usize) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(amount);
        if *count == 0 {
            counts.remove(key);
        }
    }
}
