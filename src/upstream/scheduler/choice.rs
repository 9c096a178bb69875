//! Which waiting call is next. A pure choice: calls, costs and times come in as values.
//!
//! Hierarchical start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996) with several
//! calls at a time (Jin, Chase, Kaur: "Interposed Proportional Sharing for a Storage Service Utility", SIGMETRICS
//! 2004). There are two lanes, for quick and for slow calls; within a lane the clients take turns. Slow calls hold at
//! most all workers but one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::call::{CallOutcome, ClientGroup, QueueLimit, ScheduledCall, SchedulerLimits, Ticket};
use super::client_queue::WaitingCall;
use super::cost::CostTable;
use super::lanes::{Charge, LaneKind, Lanes};
use super::running::{RunningCall, RunningCalls};

/// The least that a call is charged, so that even the quickest ones take turns.
const MIN_CHARGE: Duration = Duration::from_micros(100);
/// The most that a slow call is charged, as a multiple of the time after which a call is slow.
const MAX_SLOW_CHARGE: u32 = 16;
/// A client that waits for longer than this part of the longest wait is overdue.
const OVERDUE_DIVISOR: u32 = 3;

/// The calls of one backend.
pub struct Scheduler {
    limits: SchedulerLimits,
    costs: CostTable,
    lanes: Lanes,
    running: RunningCalls,
    last_number: u64,
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
            running: RunningCalls::new(limits.workers, now),
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
        self.running.set_workers(limits.workers);
    }

    /// The learned costs.
    pub fn costs(&self) -> &CostTable {
        &self.costs
    }

    /// The calls that the backend has, in the order in which they were sent.
    pub fn running(&self) -> &VecDeque<RunningCall> {
        self.running.calls()
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
        if self.waiting() > 0 || !self.lanes.may_pass(call) {
            return None;
        }
        self.notice_slow_calls(now);
        let expected = self.costs.expected(call, self.limits.slow_call, now);
        let kind = LaneKind::from_slow(expected.is_slow);
        let cost = self.charge(kind, expected.cost);
        if !self.has_worker(kind) || !self.has_room(kind, call.group, cost, now) {
            return None;
        }
        let charge = self.lanes.pass(kind, call, cost, now);
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
        let is_over = || self.lanes.waiting_without_login() >= self.limits.queue_without_login();
        if !call.group.has_login && is_over() {
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
        if !self.running.has_free_worker() && !self.running.has_room_ahead(MIN_CHARGE, now) {
            return None;
        }
        let overdue_after = self.limits.queue_timeout / OVERDUE_DIVISOR;
        let slow = may_be_slow && self.has_worker(LaneKind::Slow);
        let turn = self.lanes.next(slow, overdue_after, now)?;
        let call = self.lanes.call_of(&turn)?;
        let group = call.group;
        let cost = self.charge(turn.kind, self.costs.expected(call, self.limits.slow_call, now).cost);
        if !self.has_room(turn.kind, group, cost, now) {
            return None;
        }
        let (taken, charge) = self.lanes.take(&turn, cost, now)?;
        Some(self.run(taken, turn.kind, charge, now))
    }

    /// A call whose turn had come has been sent. Returns whether another one may have waited for that.
    pub fn note_sent(&mut self, ticket: Ticket) -> bool {
        self.lanes.end_start(ticket)
    }

    /// Takes the worker back from a call.
    pub fn finish(&mut self, ticket: Ticket, outcome: CallOutcome, now: Instant) {
        self.lanes.end_start(ticket);
        let Some((ended, cost)) = self.running.end(ticket, now) else { return };
        let charge = self.charge(ended.lane, cost);
        self.lanes.correct(ended.lane, &ended.call, ended.charged, charge);
        let is_slow = cost > self.limits.slow_call;
        if ended.lane == LaneKind::Quick && is_slow {
            self.lanes.charge_as_slow(&ended.call, self.charge(LaneKind::Slow, cost));
        }
        if outcome == CallOutcome::Answered || is_slow {
            self.learn(&ended.call, cost, now);
        }
        if self.running().is_empty() {
            self.lanes.forget_shares();
        }
    }

    /// Learns what a call has cost.
    pub fn learn(&mut self, call: &ScheduledCall, cost: Duration, now: Instant) {
        let is_trusted = !self.running.has_slow(call.key, self.limits.slow_call, now);
        if self.costs.record(call, cost, is_trusted, self.limits.slow_call, now) {
            self.sort_waiting(now);
        }
    }

    /// Takes a call back that waits. Returns whether it did.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.lanes.remove(ticket)
    }

    fn run(&mut self, call: WaitingCall, kind: LaneKind, charged: Charge, now: Instant) -> StartedCall {
        let ticket = call.ticket();
        let waited = now.saturating_duration_since(call.arrived);
        self.running.begin(ticket, call.call, kind, charged, now);
        StartedCall { ticket, waited }
    }

    /// Whether calls of this kind may have one more of the workers.
    fn has_worker(&self, kind: LaneKind) -> bool {
        match kind {
            LaneKind::Slow if self.limits.workers > 0 => self.running.slow() < self.limits.slow_workers(),
            LaneKind::Quick | LaneKind::Slow => true,
        }
    }

    /// Whether a worker is free, or free within milliseconds, for a call that costs so much.
    fn has_room(&mut self, kind: LaneKind, group: ClientGroup, cost: Duration, now: Instant) -> bool {
        // A slow call takes its worker for long, so it needs no room beside the quick ones.
        let more = if kind == LaneKind::Quick { cost } else { Duration::ZERO };
        self.running.has_free_worker()
            || (self.running.has_room_ahead(more, now) && self.running.may_be_ahead(group))
    }

    /// A call that runs for longer than a quick one counts as slow from now on, and so do waiting ones like it.
    fn notice_slow_calls(&mut self, now: Instant) {
        let (slow_call, costs, mut has_changed) = (self.limits.slow_call, &mut self.costs, false);
        self.running.notice_slow(slow_call, now, |call, elapsed| {
            has_changed |= costs.record_overdue(call, elapsed, slow_call, now);
        });
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
