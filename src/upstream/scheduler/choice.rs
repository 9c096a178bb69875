//! Which waiting call is next. A pure choice: calls, costs and times come in as values.
//!
//! Hierarchical start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996) with several
//! calls at a time (Jin, Chase, Kaur: "Interposed Proportional Sharing for a Storage Service Utility", SIGMETRICS
//! 2004). There are two lanes, for quick and for slow calls; within a lane the clients take turns. Slow calls hold at
//! most all workers but one.

use std::time::{Duration, Instant};

use super::call::{CallOutcome, QueueLimit, ScheduledCall, SchedulerLimits, Ticket};
use super::cost::CostTable;
use super::lane::WaitingCall;
use super::lanes::{Charge, LaneKind, Lanes};

/// The least that a call is charged, so that even the quickest ones take turns.
const MIN_CHARGE: Duration = Duration::from_micros(100);
/// The most that a slow call is charged, as a multiple of the time after which a call is slow.
const MAX_SLOW_CHARGE: u32 = 16;
/// A client should wait for at most this part of the longest wait.
const PATIENCE_DIVISOR: u32 = 3;

/// The calls of one backend.
pub struct Scheduler {
    limits: SchedulerLimits,
    costs: CostTable,
    lanes: Lanes,
    running: Vec<RunningCall>,
    last_number: u64,
}

/// A call that a worker has.
#[derive(Clone, Debug)]
pub struct RunningCall {
    pub ticket: Ticket,
    pub call: ScheduledCall,
    pub since: Instant,
    /// expected to be slow, or slow already
    pub is_slow: bool,
    lane: LaneKind,
    charged: Charge,
}

/// A call whose turn has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StartedCall {
    pub ticket: Ticket,
    pub waited: Duration,
}

impl Scheduler {
    /// A scheduler without calls.
    pub fn new(limits: SchedulerLimits, now: Instant) -> Self {
        Self {
            limits,
            costs: CostTable::new(now),
            lanes: Lanes::default(),
            running: Vec::new(),
            last_number: 0,
        }
    }

    /// The limits in effect.
    pub fn limits(&self) -> &SchedulerLimits {
        &self.limits
    }

    /// Calls that wait already keep their places, also where there are now too many.
    pub fn set_limits(&mut self, limits: SchedulerLimits) {
        self.limits = limits;
    }

    /// The learned costs.
    pub fn costs(&self) -> &CostTable {
        &self.costs
    }

    /// The calls that hold a worker.
    pub fn running(&self) -> &[RunningCall] {
        &self.running
    }

    /// The number of calls that wait.
    pub fn waiting(&self) -> usize {
        self.lanes.waiting()
    }

    #[cfg(test)]
    pub(super) fn remembered_clients(&self) -> usize {
        self.lanes.remembered_clients()
    }

    /// The arrival of the call that has waited longest.
    pub fn oldest_arrival(&self) -> Option<Instant> {
        self.lanes.oldest_arrival()
    }

    /// Starts a call at once, if none waits and a worker is free. Otherwise use [`Self::enqueue`].
    pub fn start_now(&mut self, call: &ScheduledCall, now: Instant) -> Option<Ticket> {
        if self.waiting() > 0 {
            return None;
        }
        self.notice_slow_calls(now);
        let expected = self.costs.expected(call, self.limits.slow_call, now);
        let kind = LaneKind::from_slow(expected.is_slow);
        if !self.has_worker(kind) {
            return None;
        }
        let charge = self.lanes.pass(kind, call, self.charge(kind, expected.cost), now);
        let waiting = self.next_call(call.clone(), now);
        Some(self.run(waiting, kind, charge, now).ticket)
    }

    /// Lets a call wait.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn enqueue(&mut self, call: ScheduledCall, now: Instant) -> Result<Ticket, QueueLimit> {
        if self.waiting() >= self.limits.queue {
            return Err(QueueLimit::Queue);
        }
        if self.lanes.waiting_of(call.group) >= self.limits.queue_per_client {
            return Err(QueueLimit::Client);
        }
        let kind = LaneKind::from_slow(self.costs.expected(&call, self.limits.slow_call, now).is_slow);
        let waiting = self.next_call(call, now);
        let ticket = waiting.ticket();
        self.lanes.push(kind, waiting, now);
        Ok(ticket)
    }

    /// Starts the next call, if a worker is free for one.
    pub fn start_next(&mut self, now: Instant) -> Option<StartedCall> {
        self.start_next_on(true, now)
    }

    /// The same on a worker that slow calls may have or not.
    pub(super) fn start_next_on(&mut self, may_be_slow: bool, now: Instant) -> Option<StartedCall> {
        if self.waiting() == 0 {
            return None;
        }
        self.notice_slow_calls(now);
        let patience = self.limits.queue_timeout / PATIENCE_DIVISOR;
        let quick = self.has_worker(LaneKind::Quick);
        let slow = may_be_slow && self.has_worker(LaneKind::Slow);
        let turn = self.lanes.next(quick, slow, patience, now)?;
        let call = self.lanes.call_of(&turn)?;
        let cost = self.costs.expected(call, self.limits.slow_call, now).cost;
        let (taken, charge) = self.lanes.take(&turn, self.charge(turn.kind, cost), now)?;
        Some(self.run(taken, turn.kind, charge, now))
    }

    /// Takes the worker back from a call.
    pub fn finish(&mut self, ticket: Ticket, outcome: CallOutcome, now: Instant) {
        let Some(position) = self.running.iter().position(|running| running.ticket == ticket) else { return };
        let ended = self.running.swap_remove(position);
        let cost = now.saturating_duration_since(ended.since);
        let charge = self.charge(ended.lane, cost);
        self.lanes.correct(ended.lane, &ended.call, ended.charged, charge, now);
        let is_slow = cost > self.limits.slow_call;
        if ended.lane == LaneKind::Quick && is_slow {
            self.lanes.charge_as_slow(&ended.call, self.charge(LaneKind::Slow, cost), now);
        }
        if outcome == CallOutcome::Answered || is_slow {
            self.learn(&ended.call, cost, now);
        }
        if self.running.is_empty() {
            self.lanes.forget_shares();
        }
    }

    /// Learns what a call has cost.
    pub fn learn(&mut self, call: &ScheduledCall, cost: Duration, now: Instant) {
        if self.costs.record(call, cost, self.limits.slow_call, now) {
            self.sort_waiting(now);
        }
    }

    /// Takes a call back that waits. Returns whether it did.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.lanes.remove(ticket)
    }

    fn run(&mut self, call: WaitingCall, kind: LaneKind, charged: Charge, now: Instant) -> StartedCall {
        let ticket = call.ticket();
        let is_slow = kind == LaneKind::Slow;
        let waited = now.saturating_duration_since(call.arrived);
        self.running.push(RunningCall { ticket, call: call.call, since: now, is_slow, lane: kind, charged });
        StartedCall { ticket, waited }
    }

    fn has_worker(&self, kind: LaneKind) -> bool {
        if self.limits.workers == 0 {
            return true;
        }
        if self.running.len() >= self.limits.workers {
            return false;
        }
        match kind {
            LaneKind::Quick => true,
            LaneKind::Slow => {
                let slow = self.running.iter().filter(|running| running.is_slow).count();
                slow < self.limits.slow_workers()
            }
        }
    }

    /// A call that runs for longer than a quick one counts as slow from now on, and so do waiting ones like it.
    fn notice_slow_calls(&mut self, now: Instant) {
        let slow_call = self.limits.slow_call;
        let mut has_changed = false;
        for running in self.running.iter_mut().filter(|running| !running.is_slow) {
            let elapsed = now.saturating_duration_since(running.since);
            if elapsed > slow_call {
                running.is_slow = true;
                has_changed |= self.costs.record_overdue(&running.call, elapsed, slow_call, now);
            }
        }
        if has_changed {
            self.sort_waiting(now);
        }
    }

    /// Moves waiting calls to the lane in which they are expected to belong.
    fn sort_waiting(&mut self, now: Instant) {
        let (costs, slow_call) = (&self.costs, self.limits.slow_call);
        self.lanes.sort(|call| costs.expected(call, slow_call, now).is_slow, now);
    }

    fn charge(&self, kind: LaneKind, cost: Duration) -> Duration {
        let slow_call = self.limits.slow_call.max(MIN_CHARGE);
        match kind {
            LaneKind::Quick => cost.clamp(MIN_CHARGE, slow_call),
            LaneKind::Slow => cost.clamp(slow_call, slow_call.saturating_mul(MAX_SLOW_CHARGE)),
        }
    }

    fn next_call(&mut self, call: ScheduledCall, now: Instant) -> WaitingCall {
        self.last_number += 1;
        WaitingCall { number: self.last_number, arrived: now, call }
    }
}
