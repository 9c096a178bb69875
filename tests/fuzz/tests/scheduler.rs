//! The scheduler beside a simple model: random calls of random clients, and what must hold after every step.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test ends by panicking")]

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use nodegate::testing::upstream::Scheduler;
use nodegate::testing::upstream::{CallOutcome, QueueLimit, Ticket};
use nodegate::testing::upstream::{CallTemplate, ClientGroup, ScheduledCall, SchedulerLimits};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const SLOW_CALL: Duration = Duration::from_millis(500);
/// Calls that are less work than this for each worker may be ahead of it.
const WORK_AHEAD: Duration = Duration::from_millis(10);

/// One step of a test.
#[derive(Clone, Debug)]
enum Step {
    Arrive(Arrival),
    Pass(Duration),
    /// the client of the call that arrived as the n-th last one leaves
    Leave(usize),
    Workers(usize),
}

#[derive(Clone, Debug)]
struct Arrival {
    client: u8,
    storage: u8,
    connection: u64,
    is_write: bool,
    /// how long the daemon takes
    cost: Duration,
    /// whether the answer comes, or the call fails at its end
    outcome: CallOutcome,
}

/// A call of the model.
#[derive(Clone, Debug)]
struct Known {
    arrival: Arrival,
    call: ScheduledCall,
    ticket: Ticket,
    arrived: Instant,
    started: Option<Instant>,
    /// when the daemon will have answered
    ends: Option<Instant>,
    /// what it was expected to cost when it started
    expected: Duration,
    /// whether it was expected to be slow then
    started_slow: bool,
    /// answered, failed, or left
    is_over: bool,
}

impl Known {
    fn waits(&self) -> bool {
        self.started.is_none() && !self.is_over
    }

    fn runs(&self) -> bool {
        self.started.is_some() && !self.is_over
    }
}

/// The scheduler, and everything that has happened to it in the order of arrival.
struct Model {
    scheduler: Scheduler,
    now: Instant,
    known: Vec<Known>,
    numbers: HashMap<Ticket, usize>,
    /// calls that have started, in order
    starts: Vec<usize>,
    /// calls that have started, but have not been sent
    unsent: Vec<usize>,
    /// when each worker of the daemon is free: it takes calls in the order in which they come
    workers: Vec<Instant>,
}

impl Model {
    fn new(limits: SchedulerLimits) -> Self {
        let now = Instant::now();
        let scheduler = Scheduler::new(limits, now);
        let workers = vec![now; limits.workers];
        let (known, starts, unsent) = (Vec::new(), Vec::new(), Vec::new());
        Self { scheduler, now, known, numbers: HashMap::new(), starts, unsent, workers }
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Arrive(arrival) => self.arrive(arrival),
            Step::Pass(time) => self.run_until(self.now + *time),
            Step::Leave(back) => self.leave(*back),
            Step::Workers(workers) => {
                let limits = SchedulerLimits { workers: *workers, ..*self.scheduler.limits() };
                self.scheduler.set_limits(limits);
                self.workers.resize(self.workers.len().max(*workers), self.now);
            }
        }
        self.start_all();
        self.check();
    }

    fn arrive(&mut self, arrival: &Arrival) {
        let template = CallTemplate::new("GET /storage/{storage}".into());
        let group = ClientGroup::new(arrival.client);
        let call = ScheduledCall::new(group, template, arrival.storage, arrival.connection, arrival.is_write);
        let limits = *self.scheduler.limits();
        let waiting = self.known.iter().filter(|known| known.waits());
        let (all, own) = waiting.fold((0, 0), |(all, own), known| {
            (all + 1, own + usize::from(known.arrival.client == arrival.client))
        });
        let at_once = self.scheduler.start_now(&call, self.now);
        let entered = at_once.map_or_else(|| self.scheduler.enqueue(call.clone(), self.now), Ok);
        let ticket = match entered {
            Ok(ticket) => ticket,
            Err(QueueLimit::Queue) => return assert!(all >= limits.queue),
            Err(QueueLimit::Client) => return assert!(own >= limits.queue_per_client),
        };
        assert!(at_once.is_some() || (all < limits.queue && own < limits.queue_per_client));
        let number = self.known.len();
        let (arrival, arrived) = (arrival.clone(), self.now);
        self.known.push(Known {
            arrival,
            call,
            ticket,
            arrived,
            started: None,
            ends: None,
            expected: Duration::ZERO,
            started_slow: false,
            is_over: false,
        });
        assert!(self.numbers.insert(ticket, number).is_none(), "a ticket came twice");
        if at_once.is_some() {
            assert_eq!(all, 0, "a call went past those that wait");
            self.note_start(number);
        }
    }

    /// Lets time pass, and the daemon answer.
    fn run_until(&mut self, until: Instant) {
        while let Some((end, number)) = self.next_end().filter(|(end, _)| *end <= until) {
            self.now = end;
            self.end(number, self.known[number].arrival.outcome);
            self.start_all();
            self.check();
        }
        self.now = until;
    }

    fn next_end(&self) -> Option<(Instant, usize)> {
        let running = self.known.iter().enumerate().filter(|(_, known)| known.runs());
        running.map(|(number, known)| (known.ends.unwrap(), number)).min()
    }

    fn end(&mut self, number: usize, outcome: CallOutcome) {
        self.known[number].is_over = true;
        self.scheduler.finish(self.known[number].ticket, outcome, self.now);
    }

    fn leave(&mut self, back: usize) {
        let Some(number) = self.known.len().checked_sub(back + 1) else { return };
        let (waits, runs) = (self.known[number].waits(), self.known[number].runs());
        assert_eq!(self.scheduler.cancel(self.known[number].ticket), waits);
        if runs {
            self.end(number, CallOutcome::Abandoned);
        }
        self.known[number].is_over = true;
    }

    fn start_all(&mut self) {
        loop {
            while let Some(started) = self.scheduler.start_next(self.now) {
                let number = self.numbers[&started.ticket];
                assert_eq!(started.waited, self.now - self.known[number].arrived);
                self.note_start(number);
                self.unsent.push(number);
            }
            if self.unsent.is_empty() {
                return;
            }
            for number in std::mem::take(&mut self.unsent) {
                self.scheduler.note_sent(self.known[number].ticket);
            }
        }
    }

    /// A call starts once, does not overtake where it must not, and takes a worker that is free for it.
    fn note_start(&mut self, number: usize) {
        assert!(self.known[number].waits(), "started twice, or after its client has left");
        let starting = &self.known[number];
        let is_unsent = |earlier: usize| self.known[earlier].waits() || self.unsent.contains(&earlier);
        for earlier in (0..number).filter(|earlier| is_unsent(*earlier)).map(|earlier| &self.known[earlier]) {
            if earlier.arrival.client != starting.arrival.client {
                continue;
            }
            let same_connection = earlier.arrival.connection == starting.arrival.connection;
            let writes = earlier.arrival.is_write || starting.arrival.is_write;
            assert!(!(same_connection && writes), "{starting:?} overtakes {earlier:?}");
            assert!(
                !earlier.waits()
                    || same_connection
                    || earlier.arrival.storage != starting.arrival.storage
                    || self.has_writes(),
                "calls of one client to one storage changed places"
            );
        }
        let workers = self.scheduler.limits().workers;
        let running = self.scheduler.running();
        let is_slow = running.iter().any(|running| running.ticket == starting.ticket && running.is_slow);
        let slow = running.iter().filter(|running| running.is_slow).count();
        assert!(!is_slow || slow <= slow_workers(workers), "{slow} slow calls of {workers} workers");
        let expected = self.scheduler.costs().expected(&starting.call, SLOW_CALL, self.now).cost;
        self.known[number].expected = expected;
        self.known[number].started = Some(self.now);
        let worker = self.workers.iter_mut().min().unwrap();
        *worker = self.now.max(*worker) + self.known[number].arrival.cost;
        self.known[number].ends = Some(*worker);
        self.known[number].started_slow = is_slow;
        self.starts.push(number);
        self.check_room(number);
    }

    /// More calls than workers run only if they are milliseconds of work.
    fn check_room(&self, starting: usize) {
        let workers = self.scheduler.limits().workers;
        let running = self.scheduler.running();
        if running.len() <= workers {
            return;
        }
        let group = ClientGroup::new(self.known[starting].arrival.client);
        let own = running.iter().filter(|running| running.call.group == group).count();
        assert!(own <= 2 * workers, "{own} calls of one client at {workers} workers");
        let quick = running.iter().filter(|running| !running.is_slow);
        let known = quick.map(|running| &self.known[self.numbers[&running.ticket]]);
        let work: Duration = known.map(|known| known.expected.min(SLOW_CALL)).sum();
        let slow = running.iter().filter(|running| running.is_slow).count();
        let quick_workers = u32::try_from(workers.saturating_sub(slow)).unwrap();
        let is_slow = self.known[starting].started_slow;
        let bound = WORK_AHEAD * (quick_workers + u32::from(is_slow));
        assert!(work <= bound, "{work:?} of calls at {workers} workers, of which {slow} have slow calls");
    }

    fn has_writes(&self) -> bool {
        self.known.iter().any(|known| known.arrival.is_write && known.waits())
    }

    /// No worker is idle while a call waits that may run.
    fn check(&self) {
        let workers = self.scheduler.limits().workers;
        let running = self.scheduler.running();
        let (runs, waits) = self.known.iter().fold((0, 0), |(runs, waits), known| {
            (runs + usize::from(known.runs()), waits + usize::from(known.waits()))
        });
        assert_eq!((running.len(), self.scheduler.waiting()), (runs, waits));
        if running.len() >= workers {
            return;
        }
        let slow = running.iter().filter(|running| running.is_slow).count();
        let mut seen = HashSet::new();
        for known in self.known.iter().filter(|known| known.waits()) {
            let is_first = seen.insert((known.arrival.client, known.arrival.connection));
            let expected = self.scheduler.costs().expected(&known.call, SLOW_CALL, self.now);
            let may_run = is_first && (!expected.is_slow || slow < slow_workers(workers));
            assert!(!may_run, "{} of {workers} workers have a call, and {known:?} waits", running.len());
        }
    }

    /// Until everything has ended.
    fn drain(&mut self) {
        while let Some((end, _)) = self.next_end() {
            self.run_until(end);
        }
        assert!(self.known.iter().all(|known| known.is_over), "calls wait for ever");
        assert_eq!((self.scheduler.waiting(), self.scheduler.running().len()), (0, 0));
    }
}

fn slow_workers(workers: usize) -> usize {
    if workers == 1 { 1 } else { workers - 1 }
}

fn costs() -> impl Strategy<Value = Duration> {
    prop_oneof![4 => 1..80_u64, 2 => 80..600_u64, 1 => 600..9000_u64].prop_map(Duration::from_millis)
}

fn arrivals(clients: u8, writes: bool) -> impl Strategy<Value = Arrival> {
    let outcomes = prop_oneof![9 => Just(CallOutcome::Answered), 1 => Just(CallOutcome::Abandoned)];
    (0..clients, 0..5_u8, 0..3_u64, any::<bool>(), costs(), outcomes).prop_map(
        move |(client, storage, connection, is_write, cost, outcome)| Arrival {
            client,
            storage,
            connection,
            is_write: writes && is_write,
            cost,
            outcome,
        },
    )
}

fn steps(writes: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => arrivals(6, writes).prop_map(Step::Arrive),
        6 => (0..120_u64).prop_map(|time| Step::Pass(Duration::from_millis(time))),
        1 => (0..3000_u64).prop_map(|time| Step::Pass(Duration::from_millis(time))),
        2 => (0..12_usize).prop_map(Step::Leave),
    ];
    proptest::collection::vec(step, 1..120)
}

fn limits(workers: usize) -> SchedulerLimits {
    SchedulerLimits {
        workers,
        queue: 40,
        queue_per_client: 16,
        slow_call: SLOW_CALL,
        queue_timeout: Duration::from_secs(30),
    }
}

fn cases(count: u32) -> TestRunner {
    TestRunner::new(Config { cases: count, failure_persistence: None, ..Config::default() })
}

/// Workers, limits, order and completeness, and no idle worker: see [`Model`].
#[test]
fn what_must_hold_holds_after_every_step() {
    let strategy = (1..6_usize, any::<bool>().prop_flat_map(steps));
    cases(400)
        .run(&strategy, |(workers, steps)| {
            let mut model = Model::new(limits(workers));
            model.steps(&steps);
            model.drain();
            Ok(())
        })
        .unwrap();
}

/// A changed limit stops no call that runs, and starts none too many.
#[test]
fn limits_may_change_at_any_time() {
    let change = (1..6_usize).prop_map(Step::Workers);
    let strategy = (1..6_usize, steps(true), proptest::collection::vec((change, 0..120_usize), 1..6));
    cases(150)
        .run(&strategy, |(workers, mut steps, changes)| {
            for (change, position) in changes {
                steps.insert(position.min(steps.len()), change);
            }
            let mut model = Model::new(limits(workers));
            for step in &steps {
                let before: Vec<_> = model.scheduler.running().iter().map(|running| running.ticket).collect();
                model.step(step);
                if matches!(step, Step::Workers(_)) {
                    let running = model.scheduler.running();
                    assert!(before.iter().all(|ticket| running.iter().any(|after| after.ticket == *ticket)));
                }
            }
            model.drain();
            Ok(())
        })
        .unwrap();
}

/// A client without calls has the next free worker: no other client gets more than one before it.
#[test]
fn others_get_one_call_before_an_idle_client() {
    let strategy = (1..6_usize, steps(false));
    cases(300)
        .run(&strategy, |(workers, steps)| {
            // No turn belongs to an overdue client here.
            let patient = SchedulerLimits { queue_timeout: Duration::from_secs(1 << 20), ..limits(workers) };
            let mut model = Model::new(patient);
            model.steps(&steps);
            // A storage that only the new client uses, so its call is quick.
            let number = model.known.len();
            let new = Arrival {
                client: 200,
                storage: 200,
                connection: 0,
                is_write: false,
                cost: Duration::from_millis(5),
                outcome: CallOutcome::Answered,
            };
            let quick = |model: &Model| {
                let template = CallTemplate::new("GET /storage/{storage}".into());
                let call = ScheduledCall::new(ClientGroup::new(200_u8), template, 200_u8, 0, false);
                !model.scheduler.costs().expected(&call, SLOW_CALL, model.now).is_slow
            };
            let before = model.starts.len();
            model.step(&Step::Arrive(new));
            prop_assume!(model.known.len() > number && quick(&model));
            while model.known[number].waits() {
                let (end, _) = model.next_end().unwrap();
                model.run_until(end);
                prop_assume!(quick(&model));
            }
            let place = model.starts.iter().position(|start| *start == number).unwrap();
            let mut seen = HashSet::new();
            for start in &model.starts[before..place] {
                let known = &model.known[*start];
                let is_first = known.started_slow || seen.insert(known.arrival.client);
                assert!(is_first, "two calls of one client went first: {:#?}", &model.known[*start]);
            }
            model.drain();
            Ok(())
        })
        .unwrap();
}

/// A call waits for at most a third of the longest wait, and then for four calls of each client that was there before.
#[test]
fn no_client_starves() {
    let strategy = (1..6_usize, proptest::collection::vec(arrivals(255, false), 200..400), 5..60_u64);
    cases(60)
        .run(&strategy, |(workers, arrivals, pause)| {
            let queue = SchedulerLimits { queue: 1024, queue_per_client: 256, ..limits(workers) };
            let patience = queue.queue_timeout / 3;
            let mut model = Model::new(queue);
            for (client, arrival) in arrivals.into_iter().enumerate() {
                // Half of the calls are those of ever new clients.
                let client = if client % 2 == 0 { arrival.client } else { arrival.client % 4 };
                let cost = arrival.cost.min(SLOW_CALL);
                model.step(&Step::Arrive(Arrival { client, cost, ..arrival }));
                model.step(&Step::Pass(Duration::from_millis(pause)));
            }
            model.drain();
            // Starts between the end of the patience and the start of a call that was its client's first.
            for (number, known) in model.known.iter().enumerate() {
                let earlier = model.known[..number].iter();
                let same = earlier.filter(|other| other.arrival.client == known.arrival.client);
                let head_since = same.filter_map(|other| other.started).max();
                let head_since = head_since.map_or(known.arrived, |since| since.max(known.arrived));
                let overdue = head_since + patience;
                let Some(started) = known.started.filter(|started| *started > overdue) else { continue };
                let between = model.starts.iter().map(|start| &model.known[*start]).filter(|other| {
                    let start = other.started.unwrap();
                    start > overdue && start < started
                });
                let waiting = model.known.iter().filter(|other| {
                    other.arrived <= overdue && other.started.is_some_and(|start| start > overdue)
                });
                let clients: HashSet<_> = waiting.map(|other| other.arrival.client).collect();
                let (between, bound) = (between.count(), 4 * 2 * clients.len());
                assert!(between <= bound, "{between} calls before {known:?}, at most {bound}");
            }
            Ok(())
        })
        .unwrap();
}

/// Two clients that always have calls waiting receive the same time, whatever their calls cost.
#[test]
fn busy_clients_receive_the_same_time() {
    let strategy = (1..6_usize, 1..400_u64, 1..400_u64);
    cases(60)
        .run(&strategy, |(workers, one, two)| {
            let mut model =
                Model::new(SchedulerLimits { queue: 1024, queue_per_client: 256, ..limits(workers) });
            let costs = [Duration::from_millis(one), Duration::from_millis(two)];
            let rounds = 400;
            let arrive = |model: &mut Model, client: u8| {
                let cost = costs[usize::from(client)];
                let outcome = CallOutcome::Answered;
                let arrival =
                    Arrival { client, storage: client, connection: 0, is_write: false, cost, outcome };
                model.step(&Step::Arrive(arrival));
            };
            for _ in 0..rounds {
                for client in [0, 1] {
                    let of_client = |known: &&Known| !known.is_over && known.arrival.client == client;
                    for _ in model.known.iter().filter(of_client).count()..workers + 2 {
                        arrive(&mut model, client);
                    }
                }
                let (end, _) = model.next_end().unwrap();
                model.run_until(end);
            }
            let mut received = [Duration::ZERO; 2];
            for known in model.known.iter().filter(|known| known.started.is_some()) {
                received[usize::from(known.arrival.client)] += known.arrival.cost;
            }
            // The cost of the first calls is not known yet; after that they differ by a call for each worker at most.
            let workers = u32::try_from(workers).unwrap();
            let bound = (costs[0] + costs[1]) * (2 * workers + 2);
            let difference = received[0].abs_diff(received[1]);
            assert!(difference <= bound, "{received:?}, {costs:?}");
            Ok(())
        })
        .unwrap();
}
