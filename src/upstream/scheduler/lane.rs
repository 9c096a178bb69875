//! The waiting calls of one lane, grouped by client, in the order of start-time fair queueing.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ahash::HashMap;

use super::call::{ClientGroup, ScheduledCall};
use super::client_queue::{ClientQueue, Place, WaitingCall};
use super::starts::VirtualStarts;

/// Calls that compete for the same workers. Virtual time is time of workers that a client has received.
#[derive(Default)]
pub(super) struct Lane {
    queues: HashMap<ClientGroup, ClientQueue>,
    /// of each queue
    places: BTreeSet<Place>,
    /// no client has waited since an earlier time
    oldest_head: Option<Instant>,
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

/// A property that several clients share. Together they have the turns of one client.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum SharedTurn {
    Key(u64),
    WithoutLogin,
}

/// A call that may be next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    place: Place,
    shared_start: Duration,
    position: usize,
}

impl Candidate {
    pub(super) fn head_since(&self) -> Instant {
        self.place.head_since
    }
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
            self.queues.insert(group, ClientQueue { calls: VecDeque::new(), head_since: now, start });
        }
        self.change(group, |queue| {
            let position = queue.calls.partition_point(|earlier| earlier.number < waiting.number);
            queue.calls.insert(position, waiting);
        });
        self.waiting += 1;
    }

    /// The best of the calls that `may_go`: the one of the client that has received least, and of equal ones the one
    /// whose client has waited longest.
    pub(super) fn first(&self, may_go: impl Fn(&WaitingCall) -> bool) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        for place in &self.places {
            // The place of a call is never before that of its client.
            if best.is_some_and(|best| best.place <= *place) {
                break;
            }
            let next = self.candidate(place.group, &may_go);
            best = best.into_iter().chain(next).min_by_key(|next| next.place);
        }
        best
    }

    /// Whether a client may have waited for longer than `overdue_after`. Looks at all of them only if `oldest_head` says
    /// so.
    pub(super) fn has_overdue(&mut self, overdue_after: Duration, now: Instant) -> bool {
        let is_overdue = |since: Instant| now.saturating_duration_since(since) > overdue_after;
        if self.oldest_head.is_some_and(|since| !is_overdue(since)) {
            return false;
        }
        self.oldest_head = self.queues.values().map(|queue| queue.head_since).min();
        self.oldest_head.is_some_and(is_overdue)
    }

    /// The call whose client has waited longest, if it has waited for longer than `overdue_after`.
    pub(super) fn overdue(
        &self,
        overdue_after: Duration,
        now: Instant,
        may_go: impl Fn(&WaitingCall) -> bool,
    ) -> Option<Candidate> {
        let is_overdue = |place: &&Place| now.saturating_duration_since(place.head_since) > overdue_after;
        let overdue = self.places.iter().filter(is_overdue);
        let candidates = overdue.filter_map(|place| self.candidate(place.group, &may_go));
        candidates.min_by_key(|next| (next.place.head_since, next.place.number))
    }

    pub(super) fn call_of(&self, next: Candidate) -> Option<&ScheduledCall> {
        Some(&self.queues.get(&next.place.group)?.calls.get(next.position)?.call)
    }

    /// Takes a call out, and charges it to its client. `in_turn` says whether it was the first.
    pub(super) fn take(
        &mut self,
        next: Candidate,
        charge: Duration,
        in_turn: bool,
        now: Instant,
    ) -> Option<WaitingCall> {
        let Place { start, group, .. } = next.place;
        let taken = self.remove_at(group, next.position)?;
        if in_turn {
            self.virtual_time = self.virtual_time.max(start);
        }
        self.change(group, |queue| queue.head_since = now);
        self.charge(&taken.call, start, charge, now);
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
        self.update_start(call.group);
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

    /// The next call of one client.
    fn candidate(&self, group: ClientGroup, may_go: impl Fn(&WaitingCall) -> bool) -> Option<Candidate> {
        let queue = self.queues.get(&group)?;
        let going = queue.calls.iter().enumerate().filter(|(_, waiting)| may_go(waiting));
        let mut candidates = going.map(|(position, waiting)| {
            let (shared_start, number) = (self.shared_start(&waiting.call), waiting.number);
            let (start, head_since) = (queue.start.max(shared_start), queue.head_since);
            Candidate { place: Place { start, head_since, number, group }, shared_start, position }
        });
        if self.is_by_key {
            candidates.min_by_key(|next| (next.place.start, next.shared_start, next.place.number))
        } else {
            candidates.next()
        }
    }

    /// Changes the queue of a client, and its place with it. A queue without calls goes.
    fn change<T>(&mut self, group: ClientGroup, change: impl FnOnce(&mut ClientQueue) -> T) -> Option<T> {
        let queue = self.queues.get_mut(&group)?;
        let before = queue.place(group);
        let changed = change(queue);
        let after = queue.place(group);
        if before != after {
            before.map(|before| self.places.remove(&before));
            self.places.extend(after);
        }
        if after.is_none() {
            self.queues.remove(&group);
            self.clients_without_login -= usize::from(!group.has_login);
        }
        Some(changed)
    }

    fn remove_at(&mut self, group: ClientGroup, position: usize) -> Option<WaitingCall> {
        let removed = self.change(group, |queue| queue.calls.remove(position))??;
        self.waiting -= 1;
        self.waiting_without_login -= usize::from(!group.has_login);
        Some(removed)
    }

    /// Moves the starts of the call's client, and of what it shares, past the call.
    fn charge(&mut self, call: &ScheduledCall, start: Duration, charge: Duration, now: Instant) {
        let client_start = start.max(self.clients.get(call.group));
        self.clients.set(call.group, client_start + charge, self.virtual_time, now);
        self.update_start(call.group);
        if let Some(shared) = self.shared_turn(call) {
            self.shared.set(shared, start + charge, self.virtual_time, now);
        }
    }

    /// A client that is no longer remembered keeps its place.
    fn update_start(&mut self, group: ClientGroup) {
        if let Some(start) = self.clients.find(group) {
            self.change(group, |queue| queue.start = start);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    use super::super::call::{CallTemplate, ClientGroup, ScheduledCall};
    use super::super::client_queue::{Place, WaitingCall};
    use super::{Candidate, Lane};

    /// A lane whose clock and whose calls a generator moves.
    struct RandomLane {
        lane: Lane,
        now: Instant,
        random: fastrand::Rng,
        last_number: u64,
        /// calls that were taken, and their charges
        running: Vec<(ScheduledCall, Duration)>,
    }

    impl RandomLane {
        fn new(lane: Lane, seed: u64) -> Self {
            let (now, random) = (Instant::now(), fastrand::Rng::with_seed(seed));
            Self { lane, now, random, last_number: 0, running: Vec::new() }
        }

        fn time(&mut self) -> Duration {
            Duration::from_millis(self.random.u64(0..40))
        }

        /// One of 12 clients, of which four have no login.
        fn group(&mut self) -> ClientGroup {
            let client = self.random.u8(0..12);
            if client < 4 { ClientGroup::without_login(client) } else { ClientGroup::new(client) }
        }

        fn push(&mut self) {
            let template = CallTemplate::new("GET /x".into());
            let (group, key) = (self.group(), self.random.u8(0..4));
            let call = ScheduledCall::new(group, template, key, 0, false);
            self.last_number += 1;
            let waiting = WaitingCall { number: self.last_number, arrived: self.now, call };
            self.lane.push(waiting, self.now);
        }

        fn take(&mut self, may_go: impl Fn(&WaitingCall) -> bool + Copy) {
            let overdue_after = self.time() * 3;
            let overdue = self.lane.overdue(overdue_after, self.now, may_go);
            let in_turn = self.random.bool() || overdue.is_none();
            let next = if in_turn { self.lane.first(may_go) } else { overdue };
            let charge = self.time();
            let taken = next.and_then(|next| self.lane.take(next, charge, in_turn, self.now));
            self.running.extend(taken.map(|taken| (taken.call, charge)));
        }

        fn correct(&mut self) {
            if !self.running.is_empty() {
                let (call, charged) = self.running.swap_remove(self.random.usize(0..self.running.len()));
                let cost = self.time();
                self.lane.correct(&call, charged, cost);
            }
        }

        fn cancel(&mut self) {
            let group = self.group();
            let numbers: Vec<_> = self.lane.queue_of(group).map(|waiting| waiting.number).collect();
            if let Some(number) = self.random.choice(numbers) {
                assert_eq!(self.lane.remove(group, number).map(|removed| removed.number), Some(number));
            }
        }

        /// As calls leave for the other lane and come back.
        fn sort(&mut self) {
            let key = self.random.u64(0..8);
            let moved = self.lane.remove_if(|call| call.key % 8 == key);
            for waiting in moved {
                if self.random.bool() {
                    self.lane.push(waiting, self.now);
                }
            }
        }

        fn step(&mut self, may_go: impl Fn(&WaitingCall) -> bool + Copy) {
            let passed = self.time() / 4;
            self.now += passed;
            match self.random.u8(0..20) {
                0..=7 => self.push(),
                8..=13 => self.take(may_go),
                14..=16 => self.correct(),
                17 => self.cancel(),
                18 => self.sort(),
                _ if self.random.u8(0..10) == 0 => self.lane.clients.clear(),
                _ => (),
            }
        }
    }

    /// The choice by looking at every client.
    fn all(lane: &Lane, may_go: impl Fn(&WaitingCall) -> bool + Copy) -> Vec<Candidate> {
        lane.queues.keys().filter_map(|group| lane.candidate(*group, may_go)).collect()
    }

    fn verify(
        lane: &mut Lane,
        may_go: impl Fn(&WaitingCall) -> bool + Copy,
        overdue_after: Duration,
        now: Instant,
    ) {
        let places: BTreeSet<Place> =
            lane.queues.iter().map(|(group, queue)| queue.place(*group).unwrap()).collect();
        assert_eq!(lane.places, places);
        for (group, queue) in &lane.queues {
            let remembered = lane.clients.find(*group);
            assert!(remembered.is_none_or(|start| start == queue.start), "{remembered:?} {:?}", queue.start);
            assert!(queue.calls.iter().is_sorted_by(|one, other| one.number < other.number));
        }
        let calls: Vec<_> = lane.queues().flatten().map(|waiting| waiting.call.group).collect();
        let without_login = |groups: &[ClientGroup]| groups.iter().filter(|group| !group.has_login).count();
        assert_eq!((lane.waiting(), lane.waiting_without_login()), (calls.len(), without_login(&calls)));
        let groups: Vec<_> = lane.queues.keys().copied().collect();
        assert_eq!(lane.clients_without_login, without_login(&groups));

        let place = |next: Candidate| (next.place, next.position);
        let candidates = all(lane, may_go);
        let first = candidates.iter().copied().min_by_key(|next| next.place);
        assert_eq!(lane.first(may_go).map(place), first.map(place));
        let is_overdue = |since: Instant| now.saturating_duration_since(since) > overdue_after;
        let overdue = candidates.iter().copied().filter(|next| is_overdue(next.head_since()));
        let overdue = overdue.min_by_key(|next| (next.head_since(), next.place.number));
        assert_eq!(lane.overdue(overdue_after, now, may_go).map(place), overdue.map(place));

        let oldest = lane.queues.values().map(|queue| queue.head_since).min();
        assert!(lane.oldest_head.zip(oldest).is_none_or(|(bound, oldest)| bound <= oldest));
        assert_eq!(lane.has_overdue(overdue_after, now), oldest.is_some_and(is_overdue));
    }

    /// Random sequences: each choice against one that looks at every client.
    #[test]
    fn each_choice_is_that_of_all_clients() {
        let mut longest = 0;
        for seed in 0..200 {
            let lane = if seed % 2 == 0 { Lane::default() } else { Lane::by_key() };
            let mut random = RandomLane::new(lane, seed);
            for _ in 0..300 {
                let (divisor, rest) = (random.random.u64(1..4), random.random.u64(0..4));
                // Most calls may go, or only some.
                let may_go = move |waiting: &WaitingCall| divisor == 1 || waiting.number % divisor == rest;
                random.step(may_go);
                let (overdue_after, now) = (random.time() * 3, random.now);
                verify(&mut random.lane, may_go, overdue_after, now);
                longest = longest.max(random.lane.waiting());
            }
        }
        assert!(longest > 20, "the lanes were nearly empty: {longest}");
    }
}
