//! The cost of calls: the time of earlier calls, by key, then by template, then a default. Times come in as values.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

use super::call::ScheduledCall;

/// The cost of a call of which nothing is known.
const DEFAULT_COST: Duration = Duration::from_millis(20);
/// Limits of remembered keys and templates (about half a megabyte); the least recently used go first.
const MAX_KEYS: usize = 4096;
const MAX_TEMPLATES: usize = 1024;
/// An entry is forgotten after this time without use.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
/// Quick answers in a row after which a slow call counts as quick again.
const TRUSTED_AFTER: u8 = 3;
/// Weights of the newest cost in the mean of a key and in that of a template: 1/4, 1/16.
const KEY_WEIGHT: u32 = 4;
const TEMPLATE_WEIGHT: u32 = 16;
/// The figures of a template are those of the last minutes.
const SHOWN_MINUTES: usize = 5;

/// The expected cost of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExpectedCost {
    pub cost: Duration,
    pub is_slow: bool,
}

/// Costs of earlier calls.
pub struct CostTable {
    keys: Cache<u64, KeyCost>,
    templates: Cache<u64, TemplateCost>,
    epoch: Instant,
}

#[derive(Clone, Copy)]
struct KeyCost {
    mean: Duration,
    /// quick answers since the last slow one
    quick: u8,
    used: Instant,
}

struct TemplateCost {
    name: Arc<str>,
    mean: Duration,
    used: Instant,
    minutes: [MinuteCost; SHOWN_MINUTES],
}

#[derive(Clone, Copy, Default)]
struct MinuteCost {
    minute: u64,
    calls: u64,
    busy: Duration,
}

/// The calls of one template in the last minutes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CostlyTemplate {
    pub template: Arc<str>,
    pub calls: u64,
    /// time of workers that these calls took
    pub busy: Duration,
}

impl CostTable {
    pub fn new(now: Instant) -> Self {
        Self { keys: Cache::new(MAX_KEYS), templates: Cache::new(MAX_TEMPLATES), epoch: now }
    }

    /// The expected cost of `call`. A key that is not known costs what its template does.
    pub fn expected(&self, call: &ScheduledCall, slow_call: Duration, now: Instant) -> ExpectedCost {
        let is_remembered = |used: Instant| now.saturating_duration_since(used) < FORGOTTEN_AFTER;
        if let Some(known) = self.keys.get(&call.key).filter(|known| is_remembered(known.used)) {
            return ExpectedCost { cost: known.mean, is_slow: known.quick < TRUSTED_AFTER };
        }
        let template = self.templates.get(&call.template_key).filter(|known| is_remembered(known.used));
        let cost = template.map_or(DEFAULT_COST, |known| known.mean);
        ExpectedCost { cost, is_slow: cost > slow_call }
    }

    /// Learns what a call has cost. Returns whether the expectation of a waiting call may have changed from quick to
    /// slow or back. A key whose slow calls still run is not trusted: quick answers do not make it quick again.
    pub fn record(
        &mut self,
        call: &ScheduledCall,
        cost: Duration,
        is_trusted: bool,
        slow_call: Duration,
        now: Instant,
    ) -> bool {
        let was_slow = self.expected(call, slow_call, now).is_slow;
        let template_was_slow = self.learn_template(call, cost, now, slow_call);
        self.learn_key(call.key, cost, is_trusted, slow_call, now);
        was_slow != self.expected(call, slow_call, now).is_slow || template_was_slow
    }

    /// Learns that a call is running for longer than a quick one. Returns the same.
    pub fn record_overdue(
        &mut self,
        call: &ScheduledCall,
        elapsed: Duration,
        slow_call: Duration,
        now: Instant,
    ) -> bool {
        let was_slow = self.expected(call, slow_call, now).is_slow;
        let mean = self.keys.get(&call.key).map_or(elapsed, |known| known.mean.max(elapsed));
        self.keys.insert(call.key, KeyCost { mean, quick: 0, used: now });
        !was_slow
    }

    /// The templates that took most of the workers' time in the last minutes, the costliest first.
    pub fn costliest(&self, count: usize, now: Instant) -> Vec<CostlyTemplate> {
        let oldest = (self.minute(now) + 1).saturating_sub(SHOWN_MINUTES.try_into().unwrap_or(u64::MAX));
        // A template has one entry for clients with a login, and one for the others.
        let mut by_name = BTreeMap::<Arc<str>, (u64, Duration)>::new();
        for (_, known) in self.templates.iter() {
            let (calls, busy) = known.since(oldest);
            let sum = by_name.entry(Arc::clone(&known.name)).or_default();
            *sum = (sum.0 + calls, sum.1 + busy);
        }
        let costly = |(template, (calls, busy))| CostlyTemplate { template, calls, busy };
        let mut shown: Vec<_> = by_name.into_iter().map(costly).filter(|it| it.calls > 0).collect();
        shown.sort_by(|a, b| b.busy.cmp(&a.busy).then_with(|| a.template.cmp(&b.template)));
        shown.truncate(count);
        shown
    }

    fn learn_key(&mut self, key: u64, cost: Duration, is_trusted: bool, slow_call: Duration, now: Instant) {
        let is_slow = cost > slow_call;
        let known = self.keys.get(&key).copied();
        let known = known.filter(|known| now.saturating_duration_since(known.used) < FORGOTTEN_AFTER);
        let next = match known {
            None => KeyCost { mean: cost, quick: if is_slow { 0 } else { TRUSTED_AFTER }, used: now },
            Some(known) => {
                let quick = match (is_slow, is_trusted) {
                    (true, _) => 0,
                    (false, true) => (known.quick + 1).min(TRUSTED_AFTER),
                    (false, false) => known.quick,
                };
                let is_trusted_again = quick == TRUSTED_AFTER && known.quick < TRUSTED_AFTER;
                let mean = if is_trusted_again { cost } else { weighted(known.mean, cost, KEY_WEIGHT) };
                KeyCost { mean, quick, used: now }
            }
        };
        self.keys.insert(key, next);
    }

    /// Returns whether the template has become slow or quick.
    fn learn_template(
        &mut self,
        call: &ScheduledCall,
        cost: Duration,
        now: Instant,
        slow_call: Duration,
    ) -> bool {
        let minute = self.minute(now);
        if let Some(mut known) = self.templates.get_mut(&call.template_key) {
            let before = known.mean;
            let is_forgotten = now.saturating_duration_since(known.used) >= FORGOTTEN_AFTER;
            known.mean = if is_forgotten { cost } else { weighted(before, cost, TEMPLATE_WEIGHT) };
            known.used = now;
            known.add(minute, cost);
            return (before > slow_call) != (known.mean > slow_call);
        }
        let mut known = TemplateCost {
            name: Arc::clone(&call.template.name),
            mean: cost,
            used: now,
            minutes: <[MinuteCost; SHOWN_MINUTES]>::default(),
        };
        known.add(minute, cost);
        self.templates.insert(call.template_key, known);
        cost > slow_call
    }

    fn minute(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs() / 60
    }
}

impl TemplateCost {
    fn add(&mut self, minute: u64, cost: Duration) {
        let slots = SHOWN_MINUTES.try_into().unwrap_or(1);
        let slot = usize::try_from(minute % slots).unwrap_or_default();
        if let Some(of_minute) = self.minutes.get_mut(slot) {
            if of_minute.minute != minute {
                *of_minute = MinuteCost { minute, ..MinuteCost::default() };
            }
            of_minute.calls += 1;
            of_minute.busy += cost;
        }
    }

    /// The calls since that minute, and the time of workers that they took.
    fn since(&self, oldest: u64) -> (u64, Duration) {
        let shown = self.minutes.iter().filter(|of_minute| of_minute.minute >= oldest);
        shown.fold((0, Duration::ZERO), |(calls, busy), of_minute| {
            (calls + of_minute.calls, busy + of_minute.busy)
        })
    }
}

/// The exponentially weighted mean, in which the newest value has the weight 1/`weight`.
fn weighted(mean: Duration, newest: Duration, weight: u32) -> Duration {
    (mean * (weight - 1) + newest) / weight
}
