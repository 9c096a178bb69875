//! The calls that a backend has, and how much work they are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::call::{ClientGroup, ScheduledCall, Ticket};
use super::lanes::{Charge, LaneKind};

/// Quick calls may wait in the daemon if they are less work than this for each worker. A worker that answers sooner
/// than nodegate can send the next call would be idle in between.
const WORK_AHEAD: Duration = Duration::from_millis(10);
/// If a quick call takes for so long, no call waits in the daemon: the expected costs are wrong.
const STALLED: Duration = Duration::from_millis(40);
/// A client has at most so many calls for each worker if some wait in the daemon, because what they cost may differ
/// from what they were expected to.
const CALLS_OF_CLIENT: usize = 2;

/// A call that a worker has, or will have within milliseconds.
#[derive(Clone, Debug)]
pub struct RunningCall {
    pub ticket: Ticket,
    pub call: ScheduledCall,
    pub since: Instant,
    /// expected to be slow, or slow already
    pub is_slow: bool,
    pub(super) lane: LaneKind,
    pub(super) charged: Charge,
    /// since when a worker has had it; the daemon takes calls in the order in which they come
    working_since: Option<Instant>,
}

/// The calls that a backend has.
pub(super) struct RunningCalls {
    workers: usize,
    /// in the order in which they were sent
    calls: VecDeque<RunningCall>,
    slow: usize,
    /// expected cost of all quick calls
    quick_work: Duration,
    /// no quick call began earlier
    quick_since: Instant,
}

impl RunningCalls {
    pub(super) fn new(workers: usize, now: Instant) -> Self {
        Self { workers, calls: VecDeque::new(), slow: 0, quick_work: Duration::ZERO, quick_since: now }
    }

    /// Calls beyond the workers run on.
    pub(super) fn set_workers(&mut self, workers: usize) {
        self.workers = workers;
    }

    /// In the order in which they were sent.
    pub(super) fn calls(&self) -> &VecDeque<RunningCall> {
        &self.calls
    }

    /// Calls that are slow, or expected to be.
    pub(super) fn slow(&self) -> usize {
        self.slow
    }

    /// Whether a call with this key has run for longer than `slow_call`. One that is only expected to does not count.
    pub(super) fn has_slow(&self, key: u64, slow_call: Duration, now: Instant) -> bool {
        let is_slow = |running: &RunningCall| {
            running.call.key == key && now.saturating_duration_since(running.since) > slow_call
        };
        self.slow > 0 && self.calls.iter().any(is_slow)
    }

    /// Whether a worker has no call.
    pub(super) fn has_free_worker(&self) -> bool {
        self.workers == 0 || self.calls.len() < self.workers
    }

    /// Whether the workers are expected to end their quick calls, and another one that costs `more`, within
    /// milliseconds.
    pub(super) fn has_room_ahead(&mut self, more: Duration, now: Instant) -> bool {
        let quick_workers = as_u32(self.workers.saturating_sub(self.slow));
        self.quick_work + more < WORK_AHEAD * quick_workers && !self.has_quick_older(STALLED, now)
    }

    /// Whether a client may have one more call, although no worker is free.
    pub(super) fn may_be_ahead(&self, group: ClientGroup) -> bool {
        let calls = self.calls.iter().filter(|running| running.call.group == group);
        calls.count() < self.workers.saturating_mul(CALLS_OF_CLIENT)
    }

    pub(super) fn begin(
        &mut self,
        ticket: Ticket,
        call: ScheduledCall,
        lane: LaneKind,
        charged: Charge,
        now: Instant,
    ) {
        if self.calls.len() == self.slow {
            self.quick_since = now;
        }
        match lane {
            LaneKind::Quick => self.quick_work += charged.cost,
            LaneKind::Slow => self.slow += 1,
        }
        let is_slow = lane == LaneKind::Slow;
        self.calls.push_back(RunningCall {
            ticket,
            call,
            since: now,
            is_slow,
            lane,
            charged,
            working_since: None,
        });
        self.note_work(now);
    }

    /// Takes a call out, with its cost: the time for which a worker has had it.
    pub(super) fn end(&mut self, ticket: Ticket, now: Instant) -> Option<(RunningCall, Duration)> {
        let position = self.calls.iter().position(|running| running.ticket == ticket)?;
        let ended = self.calls.remove(position)?;
        self.note_work(now);
        if ended.is_slow {
            self.slow -= 1;
        } else {
            self.quick_work -= ended.charged.cost;
        }
        let cost = ended.working_since.map(|since| now.saturating_duration_since(since));
        Some((ended, cost.unwrap_or_default()))
    }

    /// Quick calls that run for longer than `slow_call` are slow from now on. `notice` gets each with its time.
    pub(super) fn notice_slow(
        &mut self,
        slow_call: Duration,
        now: Instant,
        mut notice: impl FnMut(&ScheduledCall, Duration),
    ) {
        if !self.has_quick_older(slow_call, now) {
            return;
        }
        for running in self.calls.iter_mut().filter(|running| !running.is_slow) {
            let elapsed = now.saturating_duration_since(running.since);
            if elapsed > slow_call {
                running.is_slow = true;
                self.slow += 1;
                self.quick_work -= running.charged.cost;
                notice(&running.call, elapsed);
            }
        }
    }

    /// Looks at the calls only if `quick_since` says that one may be so old.
    fn has_quick_older(&mut self, than: Duration, now: Instant) -> bool {
        let is_older = |since: Instant| now.saturating_duration_since(since) > than;
        if !is_older(self.quick_since) {
            return false;
        }
        let quick = self.calls.iter().filter(|running| !running.is_slow);
        self.quick_since = quick.map(|running| running.since).min().unwrap_or(now);
        is_older(self.quick_since)
    }

    /// As many calls as there are workers are in work.
    fn note_work(&mut self, now: Instant) {
        let in_work = if self.workers == 0 { self.calls.len() } else { self.workers };
        for running in self.calls.iter_mut().take(in_work) {
            running.working_since.get_or_insert(now);
        }
    }
}

fn as_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
