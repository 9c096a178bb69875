//! The waiting calls of one lane, grouped by client, in the order of start-time fair queueing.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::call::{ClientGroup, ScheduledCall};

/// A call that waits.
#[derive(Debug)]
pub(super) struct WaitingCall {
    pub(super) number: u64,
    pub(super) arrived: Instant,
    pub(super) call: ScheduledCall,
}

/// The calls of one client in a lane.
pub(super) struct Flow {
    pub(super) queue: VecDeque<WaitingCall>,
    /// virtual start of the next call
    start: Duration,
    /// since when the first call is the first one
    head_since: Instant,
    used: Instant,
}

/// Calls that compete for the same workers. Virtual time is time of workers that a client has received.
#[derive(Default)]
pub(super) struct Lane {
    flows: HashMap<ClientGroup, Flow>,
    /// calls that wait
    waiting: usize,
    /// clients with a call that waits
    clients: u32,
    /// virtual start of the call that was taken last
    virtual_time: Duration,
    /// virtual starts of keys, if keys take turns as well
    keys: Option<HashMap<u64, (Duration, Instant)>>,
}

/// A call that may be next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    start: Duration,
    key_start: Duration,
    pub(super) head_since: Instant,
    number: u64,
    group: ClientGroup,
    position: usize,
}

/// Flows and keys without calls are dropped when there are this many, if they have been idle for a while.
const MAX_IDLE: usize = 4096;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

impl Lane {
    /// A lane in which the calls of one key take turns with those of others, like clients.
    pub(super) fn by_key() -> Self {
        Self { keys: Some(HashMap::new()), ..Self::default() }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Clients that wait.
    pub(super) fn clients(&self) -> u32 {
        self.clients
    }

    #[cfg(test)]
    pub(super) fn remembered_clients(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn waiting_of(&self, group: ClientGroup) -> usize {
        self.flows.get(&group).map_or(0, |flow| flow.queue.len())
    }

    /// The waiting calls of one client, in the order of arrival.
    pub(super) fn queue_of(&self, group: ClientGroup) -> impl Iterator<Item = &WaitingCall> {
        self.flows.get(&group).into_iter().flat_map(|flow| &flow.queue)
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = &VecDeque<WaitingCall>> {
        self.flows.values().map(|flow| &flow.queue).filter(|queue| !queue.is_empty())
    }

    /// Adds a call at its place among those of its client.
    pub(super) fn push(&mut self, waiting: WaitingCall, now: Instant) {
        let virtual_time = self.virtual_time;
        let flow = self.flow(waiting.call.group, now);
        if flow.queue.is_empty() {
            flow.start = flow.start.max(virtual_time);
            flow.head_since = now;
        }
        let is_first = flow.queue.is_empty();
        let position = flow.queue.partition_point(|earlier| earlier.number < waiting.number);
        flow.queue.insert(position, waiting);
        self.clients += u32::from(is_first);
        self.waiting += 1;
    }

    /// The best of the calls that `may_go`: the one of the client that has received least, and of equal ones the one
    /// whose client has waited longest.
    pub(super) fn first(&self, may_go: impl Fn(&WaitingCall) -> bool) -> Option<Candidate> {
        self.candidates(may_go).min_by_key(|next| (next.start, next.head_since, next.number))
    }

    /// The call whose client has waited longest, if it has waited for longer than `patience`.
    pub(super) fn overdue(
        &self,
        patience: Duration,
        now: Instant,
        may_go: impl Fn(&WaitingCall) -> bool,
    ) -> Option<Candidate> {
        let is_overdue = |next: &Candidate| now.saturating_duration_since(next.head_since) > patience;
        self.candidates(may_go).filter(is_overdue).min_by_key(|next| (next.head_since, next.number))
    }

    pub(super) fn call_of(&self, next: Candidate) -> Option<&ScheduledCall> {
        Some(&self.flows.get(&next.group)?.queue.get(next.position)?.call)
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
        let flow = self.flow(next.group, now);
        flow.start = next.start.max(flow.start) + charge;
        flow.head_since = now;
        self.raise_key(taken.call.key, next.start + charge, now);
        Some(taken)
    }

    /// Charges a call that need not wait, because no call of this lane does.
    pub(super) fn pass(&mut self, call: &ScheduledCall, charge: Duration, now: Instant) {
        let virtual_time = self.virtual_time;
        let flow = self.flow(call.group, now);
        let start = flow.start.max(virtual_time);
        flow.start = start + charge;
        let start = start.max(self.key_start(call.key));
        self.virtual_time = start;
        self.raise_key(call.key, start + charge, now);
    }

    /// Corrects the charge of a call by what it has cost.
    pub(super) fn correct(&mut self, call: &ScheduledCall, charged: Duration, cost: Duration, now: Instant) {
        let virtual_time = self.virtual_time;
        let corrected = |start: Duration| (start + cost).saturating_sub(charged).max(virtual_time);
        let flow = self.flow(call.group, now);
        flow.start = corrected(flow.start);
        if let Some((start, _)) = self.keys.as_mut().and_then(|keys| keys.get_mut(&call.key)) {
            *start = corrected(*start);
        }
    }

    pub(super) fn remove(&mut self, group: ClientGroup, number: u64) -> Option<WaitingCall> {
        let queue = &self.flows.get(&group)?.queue;
        let position = queue.binary_search_by_key(&number, |waiting| waiting.number).ok()?;
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
        self.flows.clear();
        if let Some(keys) = &mut self.keys {
            keys.clear();
        }
    }

    fn candidates(&self, may_go: impl Fn(&WaitingCall) -> bool) -> impl Iterator<Item = Candidate> {
        self.flows.iter().filter_map(move |(group, flow)| {
            let going = flow.queue.iter().enumerate().filter(|(_, waiting)| may_go(waiting));
            let candidate = |(position, waiting): (usize, &WaitingCall)| {
                let (key_start, number) = (self.key_start(waiting.call.key), waiting.number);
                let (start, head_since) = (flow.start.max(key_start), flow.head_since);
                Candidate { start, key_start, head_since, number, group: *group, position }
            };
            let mut candidates = going.map(candidate);
            match self.keys {
                None => candidates.next(),
                Some(_) => candidates.min_by_key(|next| (next.start, next.key_start, next.number)),
            }
        })
    }

    fn remove_at(&mut self, group: ClientGroup, position: usize) -> Option<WaitingCall> {
        let flow = self.flows.get_mut(&group)?;
        let removed = flow.queue.remove(position)?;
        self.waiting -= 1;
        self.clients -= u32::from(flow.queue.is_empty());
        Some(removed)
    }

    fn flow(&mut self, group: ClientGroup, now: Instant) -> &mut Flow {
        if self.flows.len() >= MAX_IDLE && !self.flows.contains_key(&group) {
            let virtual_time = self.virtual_time;
            self.flows.retain(|_, flow| {
                let is_recent = now.saturating_duration_since(flow.used) < FORGOTTEN_AFTER;
                !flow.queue.is_empty() || (is_recent && flow.start > virtual_time)
            });
            if self.flows.len() > MAX_IDLE / 2 {
                self.flows.retain(|_, flow| !flow.queue.is_empty());
            }
        }
        let flow = self.flows.entry(group).or_insert_with(|| Flow {
            queue: VecDeque::new(),
            start: Duration::ZERO,
            head_since: now,
            used: now,
        });
        flow.used = now;
        flow
    }

    fn key_start(&self, key: u64) -> Duration {
        self.keys.as_ref().and_then(|keys| keys.get(&key)).map_or(Duration::ZERO, |(start, _)| *start)
    }

    fn raise_key(&mut self, key: u64, start: Duration, now: Instant) {
        let virtual_time = self.virtual_time;
        if let Some(keys) = &mut self.keys {
            if keys.len() >= MAX_IDLE {
                keys.retain(|_, (start, used)| {
                    *start > virtual_time && now.saturating_duration_since(*used) < FORGOTTEN_AFTER
                });
                if keys.len() > MAX_IDLE / 2 {
                    keys.clear();
                }
            }
            keys.insert(key, (start, now));
        }
    }
}
