//! The waiting calls of one lane, grouped by client, in the order of start-time fair queueing.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::call::{ClientGroup, ScheduledCall};
use super::starts::VirtualStarts;

/// A call that waits.
#[derive(Debug)]
pub(super) struct WaitingCall {
    pub(super) number: u64,
    pub(super) arrived: Instant,
    pub(super) call: ScheduledCall,
}

/// The calls of one client that wait in a lane. It is never empty.
struct ClientQueue {
    calls: VecDeque<WaitingCall>,
    /// since when the first call is the first one
    head_since: Instant,
}

/// Calls that compete for the same workers. Virtual time is time of workers that a client has received.
#[derive(Default)]
pub(super) struct Lane {
    queues: HashMap<ClientGroup, ClientQueue>,
    /// calls that wait
    waiting: usize,
    /// virtual start of the call that was taken last
    virtual_time: Duration,
    clients: VirtualStarts<ClientGroup>,
    /// of what several clients share: a key, or to have no login
    shared: VirtualStarts<SharedTurn>,
    /// whether keys take turns as well
    is_by_key: bool,
    /// calls and clients without a login that wait
    waiting_without_login: usize,
    clients_without_login: usize,
}

/// A lane that several clients share. It has the turns of one client.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum SharedTurn {
    Key(u64),
    WithoutLogin,
}

/// A call that may be next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    start: Duration,
    shared_start: Duration,
    pub(super) head_since: Instant,
    number: u64,
    group: ClientGroup,
    position: usize,
}

impl Lane {
    /// A lane in which the calls of one key take turns with those of others, like clients.
    pub(super) fn by_key() -> Self {
        Self { is_by_key: true, ..Self::default() }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn waiting_without_login(&self) -> usize {
        self.waiting_without_login
    }

    /// Clients that wait. Those without a login count as one.
    pub(super) fn clients(&self) -> u32 {
        let clients = self.queues.len() - self.clients_without_login.saturating_sub(1);
        u32::try_from(clients).unwrap_or(u32::MAX)
    }

    #[cfg(test)]
    pub(super) fn remembered_clients(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn waiting_of(&self, group: ClientGroup) -> usize {
        self.queues.get(&group).map_or(0, |queue| queue.calls.len())
    }

    /// The waiting calls of one client, in the order of arrival.
    pub(super) fn queue_of(&self, group: ClientGroup) -> impl Iterator<Item = &WaitingCall> {
        self.queues.get(&group).into_iter().flat_map(|queue| &queue.calls)
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = &VecDeque<WaitingCall>> {
        self.queues.values().map(|queue| &queue.calls)
    }

    /// Adds a call at its place among those of its client.
    pub(super) fn push(&mut self, waiting: WaitingCall, now: Instant) {
        let group = waiting.call.group;
        self.waiting_without_login += usize::from(!group.has_login);
        if !self.queues.contains_key(&group) {
            self.clients_without_login += usize::from(!group.has_login);
            let start = self.clients.get(group).max(self.virtual_time);
            self.clients.set(group, start, self.virtual_time, now);
        }
        let new = || ClientQueue { calls: VecDeque::new(), head_since: now };
        let calls = &mut self.queues.entry(group).or_insert_with(new).calls;
        let position = calls.partition_point(|earlier| earlier.number < waiting.number);
        calls.insert(position, waiting);
        self.waiting += 1;
    }

    /// The best of the calls that `may_go`: the one of the client that has received least, and of equal ones the one
    /// whose client has waited longest.
    pub(super) fn first(&self, may_go: impl Fn(&WaitingCall) -> bool) -> Option<Candidate> {
        self.candidates(may_go).min_by_key(|next| (next.start, next.head_since, next.number))
    }

    /// The call whose client has waited longest, if it has waited for longer than `overdue_after`.
    pub(super) fn overdue(
        &self,
        overdue_after: Duration,
        now: Instant,
        may_go: impl Fn(&WaitingCall) -> bool,
    ) -> Option<Candidate> {
        let is_overdue = |next: &Candidate| now.saturating_duration_since(next.head_since) > overdue_after;
        self.candidates(may_go).filter(is_overdue).min_by_key(|next| (next.head_since, next.number))
    }

    pub(super) fn call_of(&self, next: Candidate) -> Option<&ScheduledCall> {
        Some(&self.queues.get(&next.group)?.calls.get(next.position)?.call)
    }

    /// Takes a call out, and charges it to its client. `in_turn` says whether it was the first.
    pub(super) fn take(
        &mut self,
        next: Candidate,
        charge: Duration,
        in_turn: bool,
        now: Instant,
    ) -> Option<WaitingCall> {
        let taken = self.remove_at(next.group, next.position)?;
        if in_turn {
            self.virtual_time = self.virtual_time.max(next.start);
        }
        if let Some(queue) = self.queues.get_mut(&next.group) {
            queue.head_since = now;
        }
        self.charge(&taken.call, next.start, charge, now);
        Some(taken)
    }

    /// Charges a call that need not wait, because no call of this lane does.
    pub(super) fn pass(&mut self, call: &ScheduledCall, charge: Duration, now: Instant) {
        let start = self.clients.get(call.group).max(self.virtual_time).max(self.shared_start(call));
        self.virtual_time = start;
        self.charge(call, start, charge, now);
    }

    /// Corrects the charge of a call by what it has cost.
    pub(super) fn correct(&mut self, call: &ScheduledCall, charged: Duration, cost: Duration) {
        self.clients.correct(call.group, charged, cost, self.virtual_time);
        if let Some(shared) = self.shared_turn(call) {
            self.shared.correct(shared, charged, cost, self.virtual_time);
        }
    }

    pub(super) fn remove(&mut self, group: ClientGroup, number: u64) -> Option<WaitingCall> {
        let calls = &self.queues.get(&group)?.calls;
        let position = calls.binary_search_by_key(&number, |waiting| waiting.number).ok()?;
        self.remove_at(group, position)
    }

    /// Takes out all calls for which `leaves` holds.
    pub(super) fn remove_if(&mut self, leaves: impl Fn(&ScheduledCall) -> bool) -> Vec<WaitingCall> {
        let leaving = |waiting: &&WaitingCall| leaves(&waiting.call);
        let found: Vec<_> = self
            .queues()
            .flat_map(|queue| {
                queue.iter().filter(leaving).map(|waiting| (waiting.call.group, waiting.number))
            })
            .collect();
        found.into_iter().filter_map(|(group, number)| self.remove(group, number)).collect()
    }

    /// Forgets what clients have received. No call may wait.
    pub(super) fn forget_shares(&mut self) {
        self.clients.clear();
        self.shared.clear();
    }

    fn candidates(&self, may_go: impl Fn(&WaitingCall) -> bool) -> impl Iterator<Item = Candidate> {
        self.queues.iter().filter_map(move |(group, queue)| {
            let client_start = self.clients.get(*group);
            let going = queue.calls.iter().enumerate().filter(|(_, waiting)| may_go(waiting));
            let candidate = |(position, waiting): (usize, &WaitingCall)| {
                let (shared_start, number) = (self.shared_start(&waiting.call), waiting.number);
                let (start, head_since) = (client_start.max(shared_start), queue.head_since);
                Candidate { start, shared_start, head_since, number, group: *group, position }
            };
            let mut candidates = going.map(candidate);
            if self.is_by_key {
                candidates.min_by_key(|next| (next.start, next.shared_start, next.number))
            } else {
                candidates.next()
            }
        })
    }

    fn remove_at(&mut self, group: ClientGroup, position: usize) -> Option<WaitingCall> {
        let queue = self.queues.get_mut(&group)?;
        let removed = queue.calls.remove(position)?;
        if queue.calls.is_empty() {
            self.queues.remove(&group);
            self.clients_without_login -= usize::from(!group.has_login);
        }
        self.waiting -= 1;
        self.waiting_without_login -= usize::from(!group.has_login);
        Some(removed)
    }

    /// Moves the starts of the call's client, and of what it shares, past the call.
    fn charge(&mut self, call: &ScheduledCall, start: Duration, charge: Duration, now: Instant) {
        let client_start = start.max(self.clients.get(call.group));
        self.clients.set(call.group, client_start + charge, self.virtual_time, now);
        if let Some(shared) = self.shared_turn(call) {
            self.shared.set(shared, start + charge, self.virtual_time, now);
        }
    }

    fn shared_start(&self, call: &ScheduledCall) -> Duration {
        self.shared_turn(call).map_or(Duration::ZERO, |shared| self.shared.get(shared))
    }

    fn shared_turn(&self, call: &ScheduledCall) -> Option<SharedTurn> {
        match call.group.has_login {
            _ if self.is_by_key => Some(SharedTurn::Key(call.key)),
            false => Some(SharedTurn::WithoutLogin),
            true => None,
        }
    }
}
