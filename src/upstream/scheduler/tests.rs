//! Tables: who is next, by fairness, cost, order and limits.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends by panicking")]

use std::time::{Duration, Instant};

use super::call::{
    CallOutcome, CallTemplate, ClientGroup, QueueLimit, ScheduledCall, SchedulerLimits, Ticket,
};
use super::choice::Scheduler;

const LIMITS: SchedulerLimits = SchedulerLimits {
    workers: 3,
    queue: 1024,
    queue_per_client: 256,
    slow_call: Duration::from_millis(500),
    queue_timeout: Duration::from_secs(30),
};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A backend whose clock and whose calls the test moves.
struct Backend {
    scheduler: Scheduler,
    now: Instant,
}

impl Backend {
    fn new(workers: usize) -> Self {
        Self::with_limits(SchedulerLimits { workers, ..LIMITS })
    }

    fn with_limits(limits: SchedulerLimits) -> Self {
        let now = Instant::now();
        Self { scheduler: Scheduler::new(limits, now), now }
    }

    fn enqueue(&mut self, call: ScheduledCall) -> Ticket {
        self.scheduler.enqueue(call, self.now).unwrap()
    }

    fn enqueue_many(&mut self, count: usize, call: &ScheduledCall) {
        for _ in 0..count {
            self.enqueue(call.clone());
        }
    }

    /// The tickets of the calls that start now.
    fn started(&mut self) -> Vec<Ticket> {
        std::iter::from_fn(|| self.scheduler.start_next(self.now)).map(|started| started.ticket).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn answer(&mut self, ticket: Ticket) {
        self.scheduler.finish(ticket, CallOutcome::Answered, self.now);
    }

    /// Lets calls of `call` take `cost`, one after the other.
    fn teach(&mut self, call: &ScheduledCall, cost: Duration, times: usize) {
        for _ in 0..times {
            let ticket = self.scheduler.start_now(call, self.now).unwrap();
            self.pass(cost);
            self.answer(ticket);
        }
    }

    fn teach_quick(&mut self, call: &ScheduledCall, times: usize) {
        for _ in 0..times {
            self.scheduler.learn(call, ms(1), self.now);
        }
    }

    fn is_expected_slow(&self, call: &ScheduledCall) -> bool {
        self.scheduler.costs().expected(call, LIMITS.slow_call, self.now).is_slow
    }
}

/// A read of `client` to a storage.
fn read(client: &str, storage: &str) -> ScheduledCall {
    let template = CallTemplate::new("GET /storage/{storage}".into());
    ScheduledCall::new(ClientGroup::new(client), template, storage, 0, false)
}

/// A read of a template that takes no parameter.
fn read_of(client: &str, template: &str) -> ScheduledCall {
    ScheduledCall::new(ClientGroup::new(client), CallTemplate::new(template.into()), (), 0, false)
}

fn write(client: &str, template: &str, connection: u64) -> ScheduledCall {
    ScheduledCall::new(ClientGroup::new(client), CallTemplate::new(template.into()), (), connection, true)
}

#[test]
fn an_idle_client_goes_before_a_busy_one() {
    let mut backend = Backend::new(1);
    let script: Vec<_> = (0..4).map(|_| backend.enqueue(read("script", "a"))).collect();
    assert_eq!(backend.started(), script[..1]);
    let window = backend.enqueue(read("window", "b"));
    backend.pass(ms(50));
    backend.answer(script[0]);
    assert_eq!(backend.started(), [window]);
    backend.answer(window);
    assert_eq!(backend.started(), script[1..2]);
}

#[test]
fn clients_share_time_and_not_numbers_of_calls() {
    let mut backend = Backend::new(1);
    let (cheap, dear) = (read_of("cheap", "a"), read_of("dear", "b"));
    backend.teach(&cheap, ms(10), 1);
    backend.teach(&dear, ms(40), 1);
    let mut served = [0, 0];
    for call in [&cheap, &dear] {
        backend.enqueue_many(200, call);
    }
    for _ in 0..100 {
        let ticket = backend.started()[0];
        let is_dear = ticket.group == dear.group;
        served[usize::from(is_dear)] += 1;
        backend.pass(ms(if is_dear { 40 } else { 10 }));
        backend.answer(ticket);
    }
    assert!((78..=82).contains(&served[0]), "{served:?}");
}

/// The time in which a client did nothing is not made up for.
#[test]
fn an_idle_client_saves_no_credit() {
    let mut backend = Backend::new(1);
    let (busy, idle) = (read("busy", "x"), read("idle", "x"));
    backend.enqueue_many(200, &busy);
    for _ in 0..100 {
        let ticket = backend.started()[0];
        backend.pass(ms(20));
        backend.answer(ticket);
    }
    backend.enqueue_many(50, &idle);
    let mut of_idle = 0;
    for _ in 0..40 {
        let ticket = backend.started()[0];
        of_idle += i32::from(ticket.group == idle.group);
        backend.pass(ms(20));
        backend.answer(ticket);
    }
    assert!((19..=21).contains(&of_idle), "{of_idle} of 40");
}

/// A wrong expectation is corrected when the call ends.
#[test]
fn unexpected_costs_count() {
    let mut backend = Backend::new(1);
    let mut served = [0, 0];
    for client in ["cheap", "dear"] {
        backend.enqueue_many(200, &read(client, "same"));
    }
    for _ in 0..100 {
        let ticket = backend.started()[0];
        let is_dear = ticket.group == ClientGroup::new("dear");
        served[usize::from(is_dear)] += 1;
        backend.pass(ms(if is_dear { 40 } else { 10 }));
        backend.answer(ticket);
    }
    assert!((76..=84).contains(&served[0]), "{served:?}");
}

#[test]
fn slow_calls_leave_one_worker() {
    for (workers, slow) in [(1, 1), (2, 1), (3, 2), (8, 7)] {
        let mut backend = Backend::new(workers);
        let (dead, quick) = (read_of("a", "dead"), read_of("b", "quick"));
        backend.teach(&dead, ms(8000), 1);
        backend.teach(&quick, ms(5), 1);
        backend.enqueue_many(20, &dead);
        assert_eq!(backend.started().len(), slow, "{workers} workers");
        backend.enqueue_many(20, &quick);
        assert_eq!(backend.started().len(), workers - slow, "{workers} workers");
    }
}

/// The first call of a storage that has died tells of the others, long before its answer.
#[test]
fn long_calls_count_as_slow_at_once() {
    let mut backend = Backend::new(3);
    backend.teach(&read("a", "dead"), ms(5), 5);
    let (first, second) = (backend.enqueue(read("a", "dead")), backend.enqueue(read("a", "dead")));
    assert_eq!(backend.started(), [first, second]);
    backend.pass(ms(501));
    let third = backend.enqueue(read("a", "dead"));
    assert!(backend.started().is_empty(), "two slow calls run");
    let quick = backend.enqueue(read("a", "good"));
    assert_eq!(backend.started(), [quick], "the slow call of the same client does not keep it");
    backend.pass(ms(10));
    backend.answer(first);
    assert_eq!(backend.started(), [third]);
}

#[test]
fn three_quick_answers_make_a_call_quick_again() {
    let mut backend = Backend::new(3);
    let call = read_of("a", "storage");
    backend.teach(&call, ms(8000), 3);
    for quick in 0..3 {
        assert!(backend.is_expected_slow(&call), "{quick} quick answers");
        backend.teach(&call, ms(20), 1);
    }
    assert!(!backend.is_expected_slow(&call));
    backend.teach(&call, ms(501), 1);
    assert!(backend.is_expected_slow(&call), "one slow answer is enough");
}

/// Refused passwords take the daemon seconds, and accepted ones do not. Both are calls with the same key.
#[test]
fn a_key_is_slow_while_slow_calls_run() {
    let mut backend = Backend::new(3);
    let login = |address: &str| {
        let template = CallTemplate::new("POST /access/ticket".into());
        ScheduledCall::new(ClientGroup::without_login(address), template, (), 0, false)
    };
    let guess = backend.scheduler.start_now(&login("attacker"), backend.now).unwrap();
    backend.pass(ms(600));
    backend.enqueue_many(9, &login("attacker"));
    let guesses = backend.started();
    assert_eq!(guesses.len(), 1, "with the first one, as many as may be slow");
    backend.teach_quick(&login("user"), 5);
    assert!(backend.is_expected_slow(&login("user")) && backend.started().is_empty());
    // Users have costs of their own.
    let template = CallTemplate::new("POST /access/ticket".into());
    let user = ScheduledCall::new(ClientGroup::new("user"), template, (), 0, false);
    assert!(!backend.is_expected_slow(&user));
    for ticket in [guess, guesses[0]] {
        backend.answer(ticket);
    }
    assert_eq!(backend.started().len(), 2, "the next ones are only expected to be slow");
    backend.teach_quick(&login("user"), 3);
    assert!(!backend.is_expected_slow(&login("user")));
}

#[test]
fn waiting_calls_change_lanes_when_their_storage_recovers() {
    let mut backend = Backend::new(2);
    let storage = read_of("a", "storage");
    backend.teach(&storage, ms(600), 1);
    let tickets: Vec<_> = (0..6).map(|_| backend.enqueue(storage.clone())).collect();
    for ticket in &tickets[..3] {
        assert_eq!(backend.started(), [*ticket], "one slow call at a time");
        backend.pass(ms(20));
        backend.answer(*ticket);
    }
    assert_eq!(backend.started(), tickets[3..5], "trusted again");
}

/// One client asks two dead storages, and another client a third one: each storage and each client has its turn.
#[test]
fn dead_storages_share_the_slow_workers() {
    let mut backend = Backend::new(2);
    for storage in ["a", "b", "c"] {
        backend.teach(&read("teacher", storage), ms(8000), 1);
    }
    let mut names = std::collections::HashMap::new();
    for (client, storage) in [("one", "a"), ("one", "b"), ("two", "c")] {
        for _ in 0..40 {
            names.insert(backend.enqueue(read(client, storage)), storage);
        }
    }
    let mut served = std::collections::HashMap::<&str, i32>::new();
    for _ in 0..40 {
        let ticket = backend.started()[0];
        *served.entry(names[&ticket]).or_default() += 1;
        backend.pass(ms(8000));
        backend.answer(ticket);
    }
    assert!((8..=12).contains(&served["a"]) && (8..=12).contains(&served["b"]), "{served:?}");
    assert!((18..=22).contains(&served["c"]), "{served:?}");
}

#[test]
fn dead_storages_share_whatever_clients_they_have() {
    let mut backend = Backend::new(2);
    for storage in ["a", "b"] {
        backend.teach(&read("teacher", storage), ms(8000), 1);
    }
    let clients = ["1", "2", "3", "4", "5"];
    for client in clients {
        backend.enqueue_many(20, &read(client, "a"));
    }
    backend.enqueue_many(20, &read("single", "b"));
    let mut of_single = 0;
    for _ in 0..20 {
        let ticket = backend.started()[0];
        of_single += i32::from(ticket.group == ClientGroup::new("single"));
        backend.pass(ms(8000));
        backend.answer(ticket);
    }
    assert!((9..=11).contains(&of_single), "{of_single} of 20");
}

/// Where quick and slow calls wait, the lanes share the time of the workers.
#[test]
fn quick_and_slow_calls_share_the_time() {
    let mut backend = Backend::new(3);
    let (dead, script) = (read_of("a", "dead"), read_of("b", "script"));
    backend.teach(&dead, ms(8000), 1);
    backend.teach(&script, ms(50), 1);
    // Clients that have left do not count.
    for client in 0..60 {
        backend.enqueue(read_of(&client.to_string(), if client % 2 == 0 { "dead" } else { "script" }));
    }
    while backend.scheduler.waiting() > 0 {
        let started = backend.started();
        backend.pass(ms(8000));
        for ticket in started {
            backend.answer(ticket);
        }
    }
    backend.teach(&script, ms(50), 5);
    let mut ends: Vec<(Instant, Ticket)> = Vec::new();
    let (mut of_dead, mut of_script) = (Duration::ZERO, Duration::ZERO);
    let until = backend.now + Duration::from_secs(400);
    backend.enqueue_many(4, &dead);
    backend.enqueue_many(64, &script);
    while backend.now < until {
        for ticket in backend.started() {
            let (call, cost, time) = if ticket.group == dead.group {
                (&dead, ms(8000), &mut of_dead)
            } else {
                (&script, ms(50), &mut of_script)
            };
            *time += cost;
            ends.push((backend.now + cost, ticket));
            backend.enqueue(call.clone());
        }
        ends.sort_by_key(|(end, _)| std::cmp::Reverse(*end));
        let (end, ticket) = ends.pop().unwrap();
        backend.now = end;
        backend.answer(ticket);
    }
    let share = of_dead.as_secs_f64() / (of_dead + of_script).as_secs_f64();
    assert!((0.4..0.6).contains(&share), "{share}");
}

/// Enqueues a call of each of so many clients.
fn enqueue_clients(backend: &mut Backend, clients: usize) {
    for client in 0..clients {
        backend.enqueue(read(&format!("client {client}"), "x"));
    }
}

/// Workers that answer sooner than the next call can come have calls ahead: less than 10 ms of work each.
#[test]
fn very_quick_calls_wait_in_the_daemon() {
    for (cost, most) in [(ms(8), 3), (ms(5), 5), (ms(4), 7), (ms(3), 9), (ms(1), 29), (ms(0), 299)] {
        let mut backend = Backend::new(3);
        backend.teach(&read("a", "x"), cost, 1);
        enqueue_clients(&mut backend, 400);
        assert_eq!(backend.started().len(), most, "calls of {cost:?}");
    }
}

/// A client may send cheap calls first, and then dear ones of the same template.
#[test]
fn one_client_has_two_calls_a_worker() {
    let mut backend = Backend::new(3);
    let call = read("a", "x");
    backend.teach(&call, ms(0), 1);
    backend.enqueue_many(100, &call);
    assert_eq!(backend.started().len(), 6);
    assert!(backend.scheduler.start_now(&read("b", "x"), backend.now).is_none(), "others wait");
    enqueue_clients(&mut backend, 2);
    assert_eq!(backend.started().len(), 2, "a client that comes now goes first");
}

#[test]
fn unknown_calls_do_not_wait_in_the_daemon() {
    let mut backend = Backend::new(3);
    backend.teach(&read("a", "x"), ms(1), 1);
    enqueue_clients(&mut backend, 15);
    assert_eq!(backend.started().len(), 15);
    let unknown = read_of("b", "unknown");
    assert_eq!(backend.scheduler.start_now(&unknown, backend.now), None);
    let unknown = backend.enqueue(unknown);
    backend.enqueue_many(5, &read("a", "x"));
    assert!(backend.started().is_empty(), "no call overtakes the client whose turn it is");
    let running: Vec<_> = backend.scheduler.running().iter().map(|running| running.ticket).collect();
    running[..6].iter().for_each(|ticket| backend.answer(*ticket));
    assert_eq!(backend.started()[0], unknown);
}

/// A call that takes long although it should not has calls behind it: no more follow.
#[test]
fn no_call_follows_a_stalled_one() {
    let mut backend = Backend::new(3);
    backend.teach(&read("a", "x"), ms(1), 1);
    enqueue_clients(&mut backend, 40);
    let first = backend.started();
    assert_eq!(first.len(), 29);
    backend.pass(ms(41));
    first[..20].iter().for_each(|ticket| backend.answer(*ticket));
    assert!(backend.started().is_empty());
    first[20..26].iter().for_each(|ticket| backend.answer(*ticket));
    assert!(backend.started().is_empty(), "three are left");
    backend.answer(first[26]);
    assert_eq!(backend.started().len(), 1, "a worker is free");
}

#[test]
fn slow_calls_get_a_worker_beside_quick_ones() {
    let mut backend = Backend::new(3);
    let dead = read_of("b", "dead");
    backend.teach(&read("a", "x"), ms(1), 1);
    backend.teach(&dead, ms(8000), 1);
    enqueue_clients(&mut backend, 60);
    assert_eq!(backend.started().len(), 29);
    backend.enqueue_many(5, &dead);
    assert_eq!(backend.started().len(), 1, "the other two workers have work for longer than they may");
}

/// Calls that wait in the daemon are charged for the work that they are, not for the wait.
#[test]
fn a_wait_in_the_daemon_costs_nothing() {
    let mut backend = Backend::new(1);
    let call = read("a", "x");
    backend.teach(&call, ms(1), 1);
    for _ in 0..20 {
        backend.enqueue_many(2, &call);
        for ticket in backend.started() {
            backend.pass(ms(1));
            backend.answer(ticket);
        }
    }
    assert_eq!(backend.scheduler.costs().expected(&call, LIMITS.slow_call, backend.now).cost, ms(1));
}

#[test]
fn writes_keep_their_place_on_their_connection() {
    let mut backend = Backend::new(2);
    backend.teach(&write("a", "slow", 1), ms(600), 1);
    let holder = backend.enqueue(write("z", "slow", 9));
    assert_eq!(backend.started(), [holder]);
    let slow = backend.enqueue(write("a", "slow", 1));
    let (same, other) = (backend.enqueue(write("a", "b", 1)), backend.enqueue(write("a", "c", 2)));
    let read = ScheduledCall { connection: 1, ..read_of("a", "d") };
    let read = backend.enqueue(read);
    assert_eq!(backend.started(), [other], "only the call of the other connection may overtake");
    backend.answer(other);
    assert!(backend.started().is_empty());
    backend.answer(holder);
    assert_eq!(backend.started(), [slow], "the next one waits until this one has been sent");
    assert!(backend.scheduler.note_sent(slow));
    assert_eq!(backend.started(), [same]);
    backend.answer(same);
    assert_eq!(backend.started(), [read]);
}

/// A call whose turn has come is sent a little later. Until then no call of its connection overtakes it.
#[test]
fn calls_follow_when_earlier_ones_are_sent() {
    let mut backend = Backend::new(4);
    let (first, second) = (backend.enqueue(write("a", "x", 1)), backend.enqueue(write("a", "x", 1)));
    assert_eq!(backend.started(), [first]);
    let read = ScheduledCall { connection: 1, ..read_of("a", "d") };
    let now = backend.now;
    assert!(backend.scheduler.note_sent(first));
    assert_eq!(backend.started(), [second]);
    assert_eq!(backend.scheduler.start_now(&read, now), None, "the write has not been sent");
    assert!(backend.scheduler.start_now(&write("a", "x", 2), now).is_some(), "another connection");
    assert!(!backend.scheduler.note_sent(second), "no call waits");
    assert!(backend.scheduler.start_now(&read, now).is_some());
}

/// Addresses cost nothing: all clients without a login together have the turns of one client with a login.
#[test]
fn clients_without_login_share_one_turn() {
    let mut backend = Backend::new(1);
    let domains = |address: usize| {
        let (group, template) =
            (ClientGroup::without_login(address), CallTemplate::new("GET /domains".into()));
        ScheduledCall::new(group, template, (), 0, false)
    };
    let window = read("window", "x");
    backend.teach(&window, ms(10), 1);
    backend.teach(&domains(9999), ms(10), 1);
    for address in 0..400 {
        backend.enqueue(domains(address));
    }
    for _ in 0..50 {
        backend.enqueue(window.clone());
    }
    let mut of_window = 0;
    for _ in 0..100 {
        let ticket = backend.started()[0];
        of_window += usize::from(ticket.group == window.group);
        backend.pass(ms(10));
        backend.answer(ticket);
    }
    assert!((48..=50).contains(&of_window), "{of_window}");
}

#[test]
fn clients_without_login_fill_half_the_queue() {
    let mut backend = Backend::with_limits(SchedulerLimits { workers: 1, queue: 10, ..LIMITS });
    let login = |address: u8| {
        let template = CallTemplate::new("POST /access/ticket".into());
        ScheduledCall::new(ClientGroup::without_login(address), template, (), 0, true)
    };
    for address in 0..5 {
        backend.enqueue(login(address));
    }
    let now = backend.now;
    assert_eq!(backend.scheduler.enqueue(login(9), now), Err(QueueLimit::Queue));
    backend.enqueue_many(5, &read("window", "x"));
    assert_eq!(backend.scheduler.enqueue(read("window", "x"), now), Err(QueueLimit::Queue));
    backend.started();
    assert!(backend.scheduler.enqueue(login(9), now).is_ok());
}

#[test]
fn a_quick_read_overtakes_a_slow_one() {
    let mut backend = Backend::new(2);
    backend.teach(&read_of("a", "slow"), ms(600), 1);
    let slow: Vec<_> = (0..2).map(|_| backend.enqueue(read_of("a", "slow"))).collect();
    let quick = backend.enqueue(read_of("a", "quick"));
    assert_eq!(backend.started().len(), 2);
    assert!(backend.scheduler.running().iter().any(|running| running.ticket == quick));
    assert!(backend.scheduler.cancel(slow[1]));
}

#[test]
fn the_queue_has_two_limits() {
    let mut backend =
        Backend::with_limits(SchedulerLimits { workers: 1, queue: 5, queue_per_client: 2, ..LIMITS });
    for client in ["a", "a", "b", "b"] {
        backend.enqueue(read(client, "x"));
    }
    let now = backend.now;
    assert_eq!(backend.scheduler.enqueue(read("a", "y"), now), Err(QueueLimit::Client));
    backend.enqueue(read("c", "x"));
    assert_eq!(backend.scheduler.enqueue(read("d", "x"), now), Err(QueueLimit::Queue));
    assert_eq!(backend.started().len(), 1);
    assert!(backend.scheduler.enqueue(read("d", "x"), now).is_ok());
}

/// New clients go first, but not for ever: every fourth turn belongs to the one that waits longest.
#[test]
fn ever_new_clients_starve_no_waiting_one() {
    let mut backend = Backend::new(1);
    backend.enqueue_many(2, &read("script", "x"));
    let first = backend.started()[0];
    backend.pass(ms(50));
    backend.answer(first);
    let began = backend.now;
    for client in 0.. {
        for twin in 0..2 {
            backend.enqueue(read(&format!("new {client} {twin}"), "x"));
        }
        let ticket = backend.started()[0];
        if ticket.group == ClientGroup::new("script") {
            break;
        }
        backend.pass(ms(50));
        backend.answer(ticket);
        assert!(client < 250, "starved");
    }
    let waited = backend.now - began;
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(11), "{waited:?}");
}

#[test]
fn a_thousand_clients_are_served_in_turn() {
    let mut backend = Backend::new(3);
    let expected: Vec<_> = (0..1000).map(|client| backend.enqueue(read(&client.to_string(), "x"))).collect();
    let mut served = Vec::new();
    while backend.scheduler.waiting() > 0 {
        let started = backend.started();
        backend.pass(ms(5));
        for ticket in &started {
            backend.answer(*ticket);
        }
        served.extend(started);
    }
    assert_eq!(served, expected);
}

#[test]
fn new_limits_take_effect_at_once() {
    let mut backend = Backend::new(3);
    for client in 0..9 {
        backend.enqueue(read(&client.to_string(), "x"));
    }
    let running = backend.started();
    assert_eq!(running.len(), 3);
    backend.scheduler.set_limits(SchedulerLimits { workers: 1, ..LIMITS });
    running[..2].iter().for_each(|ticket| backend.answer(*ticket));
    assert!(backend.started().is_empty(), "one call runs");
    backend.scheduler.set_limits(SchedulerLimits { workers: 0, ..LIMITS });
    assert_eq!(backend.started().len(), 6);
}

/// The table of costs is bounded, and forgets entries without use.
#[test]
fn costs_are_bounded_and_forgotten() {
    let mut backend = Backend::new(3);
    let dead = read("a", "dead");
    backend.teach(&read("a", "good"), ms(5), 20);
    backend.teach(&dead, ms(8000), 1);
    assert!(backend.is_expected_slow(&dead));
    backend.pass(Duration::from_mins(11));
    assert!(!backend.is_expected_slow(&dead), "forgotten");
    backend.teach(&dead, ms(8000), 1);
    for storage in 0..20_000 {
        backend.teach(&read("a", &storage.to_string()), ms(1), 1);
    }
    let costliest = backend.scheduler.costs().costliest(10, backend.now);
    assert_eq!(costliest.len(), 1);
    assert_eq!(costliest[0].calls, 20_001);
}

/// The template speaks for a storage of which nothing is known.
#[test]
fn unknown_calls_cost_what_their_template_does() {
    let mut backend = Backend::new(3);
    let unknown = read("a", "unknown");
    let expected =
        |backend: &Backend| backend.scheduler.costs().expected(&unknown, LIMITS.slow_call, backend.now);
    assert_eq!(expected(&backend).cost, ms(20));
    for storage in 0..100 {
        backend.teach(&read("a", &storage.to_string()), ms(100), 1);
    }
    assert_eq!(expected(&backend).cost, ms(100));
    assert!(!expected(&backend).is_slow);
    for storage in 100..200 {
        backend.teach(&read("a", &storage.to_string()), ms(3000), 1);
    }
    assert!(expected(&backend).is_slow);
}

#[test]
fn the_costliest_templates_are_recent_ones() {
    let mut backend = Backend::new(3);
    backend.teach(&read_of("a", "old"), ms(9000), 3);
    backend.pass(Duration::from_mins(6));
    backend.teach(&read_of("a", "often"), ms(10), 90);
    backend.teach(&read_of("a", "dear"), ms(400), 3);
    let costliest = backend.scheduler.costs().costliest(10, backend.now);
    let shown: Vec<_> =
        costliest.iter().map(|one| (&*one.template, one.calls, one.busy.as_millis())).collect();
    assert_eq!(shown, [("dear", 3, 1200), ("often", 90, 900)]);
}

/// Clients and keys without calls are not remembered without end.
#[test]
fn idle_clients_are_forgotten() {
    let mut backend = Backend::new(2);
    backend.teach(&read_of("a", "slow"), ms(600), 1);
    let holder = backend.enqueue(read_of("a", "slow"));
    assert_eq!(backend.started(), [holder]);
    for client in 0..20_000 {
        let ticket = backend.scheduler.start_now(&read(&client.to_string(), "x"), backend.now).unwrap();
        backend.answer(ticket);
    }
    assert!(backend.scheduler.remembered_clients() <= 5000);
    backend.answer(holder);
    assert_eq!(backend.scheduler.remembered_clients(), 0);
}

/// A client that waits keeps its place when too many others are remembered.
#[test]
fn a_forgotten_client_gains_no_turns() {
    let mut backend = Backend::new(2);
    let long = read_of("script", "long");
    backend.teach(&read("busy", "x"), ms(50), 1);
    backend.enqueue_many(200, &read("busy", "x"));
    while backend.scheduler.waiting() > 0 {
        let started = backend.started();
        backend.pass(ms(50));
        for ticket in started {
            backend.answer(ticket);
        }
    }
    let running = backend.enqueue(long);
    assert_eq!(backend.started(), [running]);
    backend.enqueue_many(200, &read("script", "x"));
    for client in 0..5000 {
        backend.enqueue(read(&format!("new {client}"), "x"));
        let started = backend.scheduler.start_next(backend.now).unwrap();
        backend.answer(started.ticket);
    }
    backend.pass(ms(50));
    backend.answer(running);
    let window = backend.enqueue(read("window", "x"));
    assert_eq!(backend.started()[0], window);
}

/// A call that was sent wakes the waiting ones only if it could have held one back: no free worker may be left over.
#[test]
fn sent_calls_leave_no_worker_free() {
    let (mut quiet, mut woken) = (0, 0);
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut backend = Backend::new(random.usize(1..5));
        let (mut waiting, mut starting, mut running) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..200 {
            backend.pass(ms(random.u64(0..300)));
            // As each event before has left it.
            let started = backend.started();
            waiting.retain(|ticket| !started.contains(ticket));
            starting.extend(started);
            let wakes = match random.u8(0..8) {
                0..=2 => {
                    let (client, connection) = (random.u8(0..3), random.u64(0..3));
                    let template = CallTemplate::new(format!("{}", random.u8(0..4)).into());
                    let group = if client == 0 {
                        ClientGroup::without_login(client)
                    } else {
                        ClientGroup::new(client)
                    };
                    let call = ScheduledCall::new(group, template, (), connection, random.u8(0..3) == 0);
                    waiting.extend(backend.scheduler.enqueue(call, backend.now));
                    true
                }
                3..=5 if !starting.is_empty() => {
                    let ticket = starting.swap_remove(random.usize(0..starting.len()));
                    running.push(ticket);
                    let wakes = backend.scheduler.note_sent(ticket);
                    *if wakes { &mut woken } else { &mut quiet } += usize::from(!waiting.is_empty());
                    wakes
                }
                6 if !running.is_empty() => {
                    let ticket = running.swap_remove(random.usize(0..running.len()));
                    backend.answer(ticket);
                    backend.scheduler.waiting() > 0
                }
                7 if !waiting.is_empty() => {
                    backend.scheduler.cancel(waiting.swap_remove(random.usize(0..waiting.len())))
                }
                _ => false,
            };
            assert!(wakes || backend.started().is_empty(), "seed {seed}: a call could have started");
        }
    }
    assert!(quiet > 100 && woken > 100, "{quiet} {woken}");
}
