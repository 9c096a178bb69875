//! The lanes of quick and of slow calls, which take turns as the clients do.

use std::time::{Duration, Instant};

use super::call::{ClientGroup, ScheduledCall, Ticket};
use super::client_queue::WaitingCall;
use super::lane::{Candidate, Lane};
use super::order::{StartingCalls, keep_order};

/// Every fourth choice goes to the client that waits longest, if it waits for longer than it should.
const OVERDUE_TURN: u8 = 4;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LaneKind {
    Quick,
    Slow,
}

/// All calls that wait.
pub(super) struct Lanes {
    quick: LaneState,
    slow: LaneState,
    virtual_time: Duration,
    /// choices since the last one for an overdue client
    in_turn: u8,
    waiting_writes: usize,
    starting: StartingCalls,
}

/// A lane, and its turn among the lanes.
struct LaneState {
    lane: Lane,
    start: Duration,
    /// whether the lane competed for the last free worker
    was_ready: bool,
}

/// The next call.
pub(super) struct Turn {
    pub(super) kind: LaneKind,
    next: Candidate,
    is_overdue: bool,
}

/// The charge of a call when its turn came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    pub(super) cost: Duration,
    /// clients that shared the lane's charge; 0 if the lane was not charged, because no call had to wait
    pub(super) shared_by: u32,
}

impl Default for Lanes {
    fn default() -> Self {
        let state = |lane| LaneState { lane, start: Duration::ZERO, was_ready: false };
        Self {
            quick: state(Lane::default()),
            slow: state(Lane::by_key()),
            virtual_time: Duration::ZERO,
            in_turn: 0,
            waiting_writes: 0,
            starting: StartingCalls::default(),
        }
    }
}

impl Lanes {
    pub(super) fn waiting(&self) -> usize {
        self.quick.lane.waiting() + self.slow.lane.waiting()
    }

    #[cfg(test)]
    pub(super) fn remembered_clients(&self) -> usize {
        self.quick.lane.remembered_clients() + self.slow.lane.remembered_clients()
    }

    /// Waiting calls of clients without a login.
    pub(super) fn waiting_without_login(&self) -> usize {
        self.quick.lane.waiting_without_login() + self.slow.lane.waiting_without_login()
    }

    pub(super) fn waiting_of(&self, group: ClientGroup) -> usize {
        self.quick.lane.waiting_of(group) + self.slow.lane.waiting_of(group)
    }

    pub(super) fn oldest_arrival(&self) -> Option<Instant> {
        let queues = self.quick.lane.queues().chain(self.slow.lane.queues());
        queues.filter_map(|queue| queue.front()).map(|waiting| waiting.arrived).min()
    }

    pub(super) fn push(&mut self, kind: LaneKind, waiting: WaitingCall, now: Instant) {
        self.waiting_writes += usize::from(waiting.call.is_write);
        self.state_mut(kind).lane.push(waiting, now);
    }

    /// Takes a call out that will not be sent. Returns whether it waited.
    pub(super) fn remove(&mut self, ticket: Ticket) -> bool {
        let lanes = [&mut self.quick.lane, &mut self.slow.lane];
        let removed = lanes.into_iter().find_map(|lane| lane.remove(ticket.group, ticket.number));
        self.waiting_writes -= usize::from(removed.as_ref().is_some_and(|removed| removed.call.is_write));
        removed.is_some()
    }

    /// The call whose turn it is. `slow` says whether a slow call may have a worker.
    pub(super) fn next(&mut self, slow: bool, overdue_after: Duration, now: Instant) -> Option<Turn> {
        let quick = self.ready(LaneKind::Quick, true);
        let slow = self.ready(LaneKind::Slow, slow);
        if self.in_turn + 1 >= OVERDUE_TURN
            && [&mut self.quick, &mut self.slow]
                .into_iter()
                .any(|state| state.lane.has_overdue(overdue_after, now))
            && let Some(turn) = self.overdue(quick.is_some(), slow.is_some(), overdue_after, now)
        {
            return Some(turn);
        }
        let is_slow_first = slow.is_some() && self.slow.start < self.quick.start;
        let (kind, next) = match (quick, slow) {
            (Some(next), _) if !is_slow_first => (LaneKind::Quick, next),
            (_, Some(next)) => (LaneKind::Slow, next),
            (Some(next), None) => (LaneKind::Quick, next),
            (None, None) => return None,
        };
        Some(Turn { kind, next, is_overdue: false })
    }

    pub(super) fn call_of(&self, turn: &Turn) -> Option<&ScheduledCall> {
        self.state(turn.kind).lane.call_of(turn.next)
    }

    /// Takes out a call whose turn it is, and charges it to its lane and its client.
    pub(super) fn take(
        &mut self,
        turn: &Turn,
        cost: Duration,
        now: Instant,
    ) -> Option<(WaitingCall, Charge)> {
        let state = self.state_mut(turn.kind);
        let charge = Charge { cost, shared_by: state.lane.clients() };
        let lane_start = state.start;
        let taken = state.lane.take(turn.next, cost, !turn.is_overdue, now)?;
        state.start += charge.of_lane();
        if turn.is_overdue {
            self.in_turn = 0;
        } else {
            self.virtual_time = self.virtual_time.max(lane_start);
            self.in_turn = (self.in_turn + 1).min(OVERDUE_TURN);
        }
        self.waiting_writes -= usize::from(taken.call.is_write);
        self.starting.add(&taken);
        Some((taken, charge))
    }

    /// Charges a call that need not wait, because no call does.
    pub(super) fn pass(
        &mut self,
        kind: LaneKind,
        call: &ScheduledCall,
        cost: Duration,
        now: Instant,
    ) -> Charge {
        self.state_mut(kind).lane.pass(call, cost, now);
        Charge { cost, shared_by: 0 }
    }

    /// Corrects the charge of a call by its real cost.
    pub(super) fn correct(&mut self, kind: LaneKind, call: &ScheduledCall, charged: Charge, cost: Duration) {
        let virtual_time = self.virtual_time;
        let state = self.state_mut(kind);
        state.lane.correct(call, charged.cost, cost);
        let real = Charge { cost, ..charged }.of_lane();
        state.start = (state.start + real).saturating_sub(charged.of_lane()).max(virtual_time);
    }

    /// Charges a call of the quick lane that has turned out to be slow.
    pub(super) fn charge_as_slow(&mut self, call: &ScheduledCall, cost: Duration) {
        let charged = Charge { cost: Duration::ZERO, shared_by: self.slow.lane.clients().max(1) };
        self.correct(LaneKind::Slow, call, charged, cost);
    }

    /// Moves each call to the lane in which it is expected to belong.
    pub(super) fn sort(&mut self, is_slow: impl Fn(&ScheduledCall) -> bool, now: Instant) {
        let slow = self.quick.lane.remove_if(&is_slow);
        let quick = self.slow.lane.remove_if(|call| !is_slow(call));
        for call in slow {
            self.slow.lane.push(call, now);
        }
        for call in quick {
            self.quick.lane.push(call, now);
        }
    }

    /// No call runs. If none waits either, clients and lanes begin on equal terms.
    pub(super) fn forget_shares(&mut self) {
        if self.waiting() == 0 {
            for state in [&mut self.quick, &mut self.slow] {
                state.lane.forget_shares();
                state.start = self.virtual_time;
            }
        }
    }

    /// The best call of a lane that may have a worker now. A lane that could not compete before begins on equal terms.
    fn ready(&mut self, kind: LaneKind, has_worker: bool) -> Option<Candidate> {
        let may_go = |call: &WaitingCall| self.keeps_order(call);
        let next = if has_worker { self.state(kind).lane.first(may_go) } else { None };
        let virtual_time = self.virtual_time;
        let state = self.state_mut(kind);
        if next.is_some() && !state.was_ready {
            state.start = state.start.max(virtual_time);
        }
        state.was_ready = next.is_some();
        next
    }

    /// The call that has its turn because its client has waited for too long.
    fn overdue(&self, quick: bool, slow: bool, overdue_after: Duration, now: Instant) -> Option<Turn> {
        let lanes = [(LaneKind::Quick, quick), (LaneKind::Slow, slow)];
        let overdue = lanes.into_iter().filter(|(_, is_ready)| *is_ready).filter_map(|(kind, _)| {
            let lane = &self.state(kind).lane;
            let next = lane.overdue(overdue_after, now, |call| self.keeps_order(call))?;
            Some(Turn { kind, next, is_overdue: true })
        });
        overdue.min_by_key(|turn| turn.next.head_since())
    }

    /// The call has been sent, or will not be: it holds back no other call of its connection. Returns whether it may
    /// have done so.
    pub(super) fn end_start(&mut self, ticket: Ticket) -> bool {
        let sent = self.starting.remove(ticket);
        sent.is_some_and(|sent| self.waiting_writes > 0 || (sent.is_write && self.waiting() > 0))
    }

    /// Whether a call that does not wait keeps the order of its connection.
    pub(super) fn may_pass(&self, call: &ScheduledCall) -> bool {
        self.starting.let_pass(call)
    }

    /// Whether a waiting call may go without overtaking one that it must not.
    fn keeps_order(&self, call: &WaitingCall) -> bool {
        if !self.starting.let_pass(&call.call) {
            return false;
        }
        if self.waiting_writes == 0 {
            return true;
        }
        let group = call.call.group;
        let mut earlier = self.quick.lane.queue_of(group).chain(self.slow.lane.queue_of(group));
        !earlier.any(|other| other.number < call.number && keep_order(&other.call, &call.call))
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

impl Charge {
    fn of_lane(self) -> Duration {
        self.cost.checked_div(self.shared_by).unwrap_or_default()
    }
}

impl LaneKind {
    pub(super) fn from_slow(is_slow: bool) -> Self {
        if is_slow { Self::Slow } else { Self::Quick }
    }
}

impl WaitingCall {
    pub(super) fn ticket(&self) -> Ticket {
        Ticket { number: self.number, group: self.call.group }
    }
}
