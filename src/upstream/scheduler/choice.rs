//! Which waiting call is next. A pure choice: calls, costs and times come in as values.
//!
//! Hierarchical start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996) with several
//! calls at a time (Jin, Chase, Kaur: "Interposed Proportional Sharing for a Storage Service Utility", SIGMETRICS
//! 2004). There are two lanes, for quick and for slow calls; within a lane the clients take turns. Slow calls hold at
//! most all workers but one.

use std::time::{Duration, Instant};

use super::call::{CallOutcome, QueueLimit, ScheduledCall, SchedulerLimits, Ticket};
use super::cost::CostTable;
use super::lane::{Candidate, Lane, WaitingCall};

/// The least that a call is charged, so that even the quickest ones take turns.
const MIN_CHARGE: Duration = Duration::from_micros(100);
/// The most that a slow call is charged, as a multiple of the time after which a call is slow.
const MAX_SLOW_CHARGE: u32 = 16;
/// Every fourth choice goes to the client that waits longest, if it waits for longer than it should.
const OVERDUE_TURN: u8 = 4;
/// A client should wait for at most this part of the longest wait.
const PATIENCE_DIVISOR: u32 = 3;

/// The calls of one backend.
pub struct Scheduler {
    limits: SchedulerLimits,
    costs: CostTable,
    quick: LaneState,
    slow: LaneState,
    running: Vec<RunningCall>,
    virtual_time: Duration,
    last_number: u64,
    /// choices since the last one for an overdue client
    in_turn: u8,
    waiting_writes: usize,
}

/// A lane, and its turn among the lanes.
struct LaneState {
    lane: Lane,
    start: Duration,
    /// whether the lane competed for the last free worker
    was_ready: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LaneKind {
    Quick,
    Slow,
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
    charged: Duration,
}

/// A call whose turn has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StartedCall {
    pub ticket: Ticket,
    pub waited: Duration,
}

impl Scheduler {
    pub fn new(limits: SchedulerLimits, now: Instant) -> Self {
        let state = |lane| LaneState { lane, start: Duration::ZERO, was_ready: false };
        Self {
            limits,
            costs: CostTable::new(now),
            quick: state(Lane::default()),
            slow: state(Lane::by_key()),
            running: Vec::new(),
            virtual_time: Duration::ZERO,
            last_number: 0,
            in_turn: 0,
            waiting_writes: 0,
        }
    }

    pub fn limits(&self) -> &SchedulerLimits {
        &self.limits
    }

    /// Calls that wait already keep their places, also where there are now too many.
    pub fn set_limits(&mut self, limits: SchedulerLimits) {
        self.limits = limits;
    }

    pub fn costs(&self) -> &CostTable {
        &self.costs
    }

    pub fn running(&self) -> &[RunningCall] {
        &self.running
    }

    pub fn waiting(&self) -> usize {
        self.quick.lane.waiting() + self.slow.lane.waiting()
    }

    /// The arrival of the call that has waited longest.
    pub fn oldest_arrival(&self) -> Option<Instant> {
        let queues = self.quick.lane.queues().chain(self.slow.lane.queues());
        queues.filter_map(|queue| queue.front()).map(|waiting| waiting.arrived).min()
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
        let charge = self.charge(kind, expected.cost);
        let waiting = self.next_call(call.clone(), now);
        self.virtual_time = self.virtual_time.max(self.state(kind).start);
        self.state_mut(kind).lane.pass(call, charge, now);
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
        let of_client = self.quick.lane.waiting_of(call.group) + self.slow.lane.waiting_of(call.group);
        if of_client >= self.limits.queue_per_client {
            return Err(QueueLimit::Client);
        }
        let kind = LaneKind::from_slow(self.costs.expected(&call, self.limits.slow_call, now).is_slow);
        let waiting = self.next_call(call, now);
        let ticket = waiting.ticket();
        self.waiting_writes += usize::from(waiting.call.is_write);
        self.state_mut(kind).lane.push(waiting, now);
        Ok(ticket)
    }

    /// Starts the next call, if a worker is free for one.
    pub fn start_next(&mut self, now: Instant) -> Option<StartedCall> {
        if self.waiting() == 0 {
            return None;
        }
        self.notice_slow_calls(now);
        let quick = self.ready(LaneKind::Quick);
        let slow = self.ready(LaneKind::Slow);
        if let Some((kind, next)) = self.overdue(quick.is_some(), slow.is_some(), now) {
            return self.start(kind, next, false, now);
        }
        let is_slow_first = slow.is_some() && self.slow.start < self.quick.start;
        let (kind, next) = match (quick, slow) {
            (Some(next), _) if !is_slow_first => (LaneKind::Quick, next),
            (_, Some(next)) => (LaneKind::Slow, next),
            (_, None) => return None,
        };
        self.start(kind, next, true, now)
    }

    /// Takes the worker back from a call.
    pub fn finish(&mut self, ticket: Ticket, outcome: CallOutcome, now: Instant) {
        let Some(position) = self.running.iter().position(|running| running.ticket == ticket) else { return };
        let ended = self.running.swap_remove(position);
        let cost = now.saturating_duration_since(ended.since);
        let slow_call = self.limits.slow_call;
        let charge = self.charge(ended.lane, cost);
        self.state_mut(ended.lane).lane.correct(&ended.call, ended.charged, charge, now);
        if ended.lane == LaneKind::Quick && cost > slow_call {
            let charge = self.charge(LaneKind::Slow, cost);
            self.slow.lane.correct(&ended.call, Duration::ZERO, charge, now);
        }
        let is_known = outcome == CallOutcome::Answered || cost > slow_call;
        if is_known && self.costs.record(&ended.call, cost, slow_call, now) {
            self.sort_waiting(now);
        }
        if self.running.is_empty() && self.waiting() == 0 {
            self.quick.lane.reset();
            self.slow.lane.reset();
        }
    }

    /// Learns what a call has cost that took no worker of the limit.
    pub fn learn(&mut self, call: &ScheduledCall, cost: Duration, now: Instant) {
        if self.costs.record(call, cost, self.limits.slow_call, now) {
            self.sort_waiting(now);
        }
    }

    /// Takes a call back that waits. Returns whether it did.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let lanes = [&mut self.quick.lane, &mut self.slow.lane];
        let removed = lanes.into_iter().find_map(|lane| lane.remove(ticket.group, ticket.number));
        self.waiting_writes -= usize::from(removed.as_ref().is_some_and(|removed| removed.call.is_write));
        removed.is_some()
    }

    fn start(&mut self, kind: LaneKind, next: Candidate, in_turn: bool, now: Instant) -> Option<StartedCall> {
        let cost = self.state(kind).lane.call_of(next).map(|call| self.expected_cost(call, now))?;
        let charge = self.charge(kind, cost);
        let state = self.state_mut(kind);
        let (lane_start, lane_charge) = (state.start, charge / state.lane.weight());
        let taken = state.lane.take(next, charge, in_turn, now)?;
        state.start += lane_charge;
        if in_turn {
            self.virtual_time = self.virtual_time.max(lane_start);
            self.in_turn = self.in_turn.saturating_add(1);
        } else {
            self.in_turn = 0;
        }
        self.waiting_writes -= usize::from(taken.call.is_write);
        Some(self.run(taken, kind, charge, now))
    }

    fn run(&mut self, call: WaitingCall, kind: LaneKind, charged: Duration, now: Instant) -> StartedCall {
        let ticket = call.ticket();
        let is_slow = kind == LaneKind::Slow;
        let waited = now.saturating_duration_since(call.arrived);
        self.running.push(RunningCall { ticket, call: call.call, since: now, is_slow, lane: kind, charged });
        StartedCall { ticket, waited }
    }

    /// The best call of a lane that may have a worker now. A lane that could not compete before begins on equal terms.
    fn ready(&mut self, kind: LaneKind) -> Option<Candidate> {
        let is_ready = self.state(kind).lane.waiting() > 0 && self.has_worker(kind);
        let next = if is_ready { self.state(kind).lane.first(|call| self.keeps_order(call)) } else { None };
        let virtual_time = self.virtual_time;
        let state = self.state_mut(kind);
        if next.is_some() && !state.was_ready {
            state.start = state.start.max(virtual_time);
        }
        state.was_ready = next.is_some();
        next
    }

    /// The call that has its turn because its client has waited for too long.
    fn overdue(&self, quick: bool, slow: bool, now: Instant) -> Option<(LaneKind, Candidate)> {
        if self.in_turn + 1 < OVERDUE_TURN {
            return None;
        }
        let patience = self.limits.queue_timeout / PATIENCE_DIVISOR;
        let lanes = [(LaneKind::Quick, quick), (LaneKind::Slow, slow)];
        let overdue = lanes.into_iter().filter(|(_, is_ready)| *is_ready).filter_map(|(kind, _)| {
            let lane = &self.state(kind).lane;
            Some((kind, lane.overdue(patience, now, |call| self.keeps_order(call))?))
        });
        overdue.min_by_key(|(_, next)| next.head_since)
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

    /// Whether a call may go without overtaking a call of its connection, where one of the two may change something.
    fn keeps_order(&self, call: &WaitingCall) -> bool {
        if self.waiting_writes == 0 {
            return true;
        }
        let group = call.call.group;
        let mut earlier = self.quick.lane.queue_of(group).chain(self.slow.lane.queue_of(group));
        !earlier.any(|other| {
            other.number < call.number
                && other.call.connection == call.call.connection
                && (other.call.is_write || call.call.is_write)
        })
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
        let is_slow = |call: &ScheduledCall| costs.expected(call, slow_call, now).is_slow;
        let slow = self.quick.lane.remove_if(is_slow);
        let quick = self.slow.lane.remove_if(|call| !is_slow(call));
        for call in slow {
            self.slow.lane.push(call, now);
        }
        for call in quick {
            self.quick.lane.push(call, now);
        }
    }

    fn expected_cost(&self, call: &ScheduledCall, now: Instant) -> Duration {
        self.costs.expected(call, self.limits.slow_call, now).cost
    }

    fn charge(&self, kind: LaneKind, cost: Duration) -> Duration {
        let slow_call = self.limits.slow_call.max(MIN_CHARGE);
        match kind {
            LaneKind::Quick => cost.clamp(MIN_CHARGE, slow_call),
            LaneKind::Slow => cost.clamp(slow_call, slow_call * MAX_SLOW_CHARGE),
        }
    }

    fn next_call(&mut self, call: ScheduledCall, now: Instant) -> WaitingCall {
        self.last_number += 1;
        WaitingCall { number: self.last_number, arrived: now, call }
    }

    fn state(&self, kind: LaneKind) -> &LaneState {
        match kind {
            LaneKind::Quick => &self.quick,
            LaneKind::Slow => &self.slow,
        }
    }

    fn state_mut(&mut self, kind: LaneKind) -> &mut LaneState {
        match kind {
            LaneKind::Quick => &mut self.quick,
            LaneKind::Slow => &mut self.slow,
        }
    }
}

impl LaneKind {
    fn from_slow(is_slow: bool) -> Self {
        if is_slow { Self::Slow } else { Self::Quick }
    }
}

impl WaitingCall {
    fn ticket(&self) -> Ticket {
        Ticket { number: self.number, group: self.call.group }
    }
}
