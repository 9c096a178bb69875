//! A day of mixed load at a daemon with three workers: in order of arrival, as daemons answer, and as the scheduler
//! chooses. `cargo test -p nodegate-fuzz --test scheduler_day -- --nocapture` prints the table of ADR 40.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends by panicking")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use nodegate::testing::upstream::Scheduler;
use nodegate::testing::upstream::{CallOutcome, Ticket};
use nodegate::testing::upstream::{CallTemplate, ClientGroup, ScheduledCall, SchedulerLimits};

const WORKERS: usize = 3;
const LIMITS: SchedulerLimits = SchedulerLimits {
    workers: WORKERS,
    queue: 1024,
    queue_per_client: 256,
    slow_call: Duration::from_millis(500),
    queue_timeout: Duration::from_secs(30),
};
const HOUR: u64 = 3_600_000_000;
const MINUTE: u64 = 60_000_000;
const SECOND: u64 = 1_000_000;
const MILLISECOND: u64 = 1000;
/// A user's window polls this often, and the storage that the user looks at this often.
const POLL: u64 = 5 * SECOND;
const STORAGE_POLL: u64 = 10 * SECOND;

/// Microseconds since midnight.
type Time = u64;

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Kind {
    Window,
    Storage,
    Agent,
    Script,
    Backup,
    Login,
}

/// When a kind of load is there, and what its calls cost.
struct Load {
    kind: Kind,
    client: u64,
    /// from, until
    times: Vec<(Time, Time)>,
    cost: (u64, u64),
    arrivals: Arrivals,
}

#[derive(Clone, Copy)]
enum Arrivals {
    /// so many calls at once, again and again
    Every { period: u64, calls: usize },
    /// so many calls that each begin when an earlier one has ended
    Parallel(usize),
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    /// a call of this number ends
    End(usize),
    /// so does the patience of its client
    GiveUp(usize),
    /// a load begins, or polls again
    Tick(usize),
}

struct Call {
    load: usize,
    arrived: Time,
    cost: u64,
    ticket: Option<Ticket>,
    started: bool,
    /// answered, or rejected
    ended: Option<(Time, bool)>,
}

/// The rule that chooses the next call.
enum Policy {
    Arrival { waiting: VecDeque<usize>, busy: usize },
    Fair { scheduler: Box<Scheduler>, calls: HashMap<Ticket, usize> },
}

struct Day {
    loads: Vec<Load>,
    templates: HashMap<Kind, CallTemplate>,
    policy: Policy,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    calls: Vec<Call>,
    midnight: Instant,
    random: u64,
    sequence: u64,
}

fn loads() -> Vec<Load> {
    let office = vec![(8 * HOUR, 18 * HOUR)];
    let dead = [(11 * HOUR, 12 * HOUR), (14 * HOUR, 14 * HOUR + 30 * MINUTE)];
    let mut loads = Vec::new();
    for user in 0..6 {
        let poll = |period, calls| Arrivals::Every { period, calls };
        let mut add = |kind, times: Vec<_>, cost, arrivals| {
            loads.push(Load { kind, client: user, times, cost, arrivals });
        };
        add(Kind::Window, office.clone(), (2 * MILLISECOND, 15 * MILLISECOND), poll(POLL, 4));
        if user < 4 {
            let alive = vec![(8 * HOUR, dead[0].0), (dead[0].1, dead[1].0), (dead[1].1, 18 * HOUR)];
            add(Kind::Storage, alive, (5 * MILLISECOND, 30 * MILLISECOND), poll(STORAGE_POLL, 1));
            add(Kind::Storage, dead.to_vec(), (8 * SECOND, 8 * SECOND + 1), poll(STORAGE_POLL, 1));
        }
    }
    let scripts = [10 * HOUR, 14 * HOUR].map(|start| (start, start + 15 * MINUTE));
    let mut add = |kind, client, times, cost, arrivals| {
        loads.push(Load { kind, client, times, cost, arrivals });
    };
    let agent = Arrivals::Every { period: MINUTE, calls: 40 };
    add(Kind::Agent, 10, vec![(0, 24 * HOUR)], (30 * MILLISECOND, 80 * MILLISECOND), agent);
    add(Kind::Script, 11, scripts.to_vec(), (45 * MILLISECOND, 55 * MILLISECOND), Arrivals::Parallel(64));
    let night = vec![(2 * HOUR, 3 * HOUR), (9 * HOUR, 9 * HOUR + 30 * MINUTE)];
    add(Kind::Backup, 12, night, (SECOND, 3 * SECOND), Arrivals::Parallel(4));
    let flood = vec![(16 * HOUR, 16 * HOUR + 10 * MINUTE)];
    add(Kind::Login, 13, flood, (25 * MILLISECOND, 35 * MILLISECOND), Arrivals::Parallel(100));
    loads
}

/// Parts of the day, and the load that they have beside windows and agent.
const PHASES: [(&str, Time, Time); 7] = [
    ("nothing more", 8 * HOUR, 9 * HOUR),
    ("a backup's slow calls", 9 * HOUR, 9 * HOUR + 30 * MINUTE),
    ("a script, 64 in parallel", 10 * HOUR, 10 * HOUR + 15 * MINUTE),
    ("a dead storage", 11 * HOUR + MINUTE, 12 * HOUR),
    ("script and dead storage", 14 * HOUR + MINUTE, 14 * HOUR + 15 * MINUTE),
    ("a flood of logins", 16 * HOUR, 16 * HOUR + 10 * MINUTE),
    ("the whole day", 0, 24 * HOUR),
];

impl Day {
    fn new(policy: Policy, midnight: Instant) -> Self {
        let kinds = [Kind::Window, Kind::Storage, Kind::Agent, Kind::Script, Kind::Backup, Kind::Login];
        let templates = kinds.map(|kind| (kind, CallTemplate::new(format!("{kind:?}").into())));
        let mut day = Self {
            loads: loads(),
            templates: templates.into_iter().collect(),
            policy,
            events: BinaryHeap::new(),
            calls: Vec::new(),
            midnight,
            random: 0x2545_f491_4f6c_dd1d,
            sequence: 0,
        };
        for number in 0..day.loads.len() {
            for (from, _) in day.loads[number].times.clone() {
                // Windows were not opened in the same second.
                let offset = match day.loads[number].arrivals {
                    Arrivals::Every { period, .. } => day.random_in(0, period),
                    Arrivals::Parallel(_) => 0,
                };
                day.schedule(from + offset, Event::Tick(number));
            }
        }
        day
    }

    fn run(mut self) -> Vec<(Kind, Call)> {
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            match event {
                Event::Tick(load) => self.tick(load, now),
                Event::End(call) => self.end(call, now),
                Event::GiveUp(call) => self.give_up(call, now),
            }
            self.start_all(now);
        }
        let kinds: Vec<_> = self.loads.iter().map(|load| load.kind).collect();
        self.calls.into_iter().map(|call| (kinds[call.load], call)).collect()
    }

    fn tick(&mut self, load: usize, now: Time) {
        let (calls, again) = match self.loads[load].arrivals {
            Arrivals::Every { period, calls } => (calls, Some(now + period)),
            Arrivals::Parallel(calls) => (calls, None),
        };
        (0..calls).for_each(|_| self.arrive(load, now));
        if let Some(again) = again.filter(|again| self.is_on(load, *again)) {
            self.schedule(again, Event::Tick(load));
        }
    }

    fn is_on(&self, load: usize, now: Time) -> bool {
        self.loads[load].times.iter().any(|(from, until)| (*from..*until).contains(&now))
    }

    fn arrive(&mut self, load: usize, now: Time) {
        let (from, to) = self.loads[load].cost;
        let (kind, client) = (self.loads[load].kind, self.loads[load].client);
        let (cost, number) = (self.random_in(from, to), self.calls.len());
        self.calls.push(Call { load, arrived: now, cost, ticket: None, started: false, ended: None });
        let at = self.midnight + Duration::from_micros(now);
        match &mut self.policy {
            Policy::Arrival { waiting, .. } => waiting.push_back(number),
            Policy::Fair { scheduler, calls } => {
                let (group, template) = (ClientGroup::new(client), self.templates[&kind].clone());
                let call = ScheduledCall::new(group, template, (), 0, false);
                let Ok(ticket) = scheduler.enqueue(call, at) else {
                    self.calls[number].ended = Some((now, false));
                    return;
                };
                calls.insert(ticket, number);
                self.calls[number].ticket = Some(ticket);
            }
        }
        self.schedule(now + 30 * SECOND, Event::GiveUp(number));
    }

    fn start_all(&mut self, now: Time) {
        let at = self.midnight + Duration::from_micros(now);
        loop {
            let started = match &mut self.policy {
                Policy::Arrival { busy, .. } if *busy >= WORKERS => None,
                Policy::Arrival { waiting, busy } => waiting.pop_front().inspect(|_| *busy += 1),
                Policy::Fair { scheduler, calls } => {
                    scheduler.start_next(at).map(|started| calls[&started.ticket])
                }
            };
            let Some(number) = started else { return };
            self.calls[number].started = true;
            self.schedule(now + self.calls[number].cost, Event::End(number));
        }
    }

    fn end(&mut self, number: usize, now: Time) {
        self.calls[number].ended = Some((now, true));
        let at = self.midnight + Duration::from_micros(now);
        match &mut self.policy {
            Policy::Arrival { busy, .. } => *busy -= 1,
            Policy::Fair { scheduler, .. } => {
                scheduler.finish(self.calls[number].ticket.unwrap(), CallOutcome::Answered, at);
            }
        }
        self.go_on(self.calls[number].load, now);
    }

    /// In order of arrival the daemon has the call already: nothing ends its wait.
    fn give_up(&mut self, number: usize, now: Time) {
        let (Policy::Fair { scheduler, .. }, false) = (&mut self.policy, self.calls[number].started) else {
            return;
        };
        assert!(scheduler.cancel(self.calls[number].ticket.unwrap()));
        self.calls[number].ended = Some((now, false));
        self.go_on(self.calls[number].load, now);
    }

    fn go_on(&mut self, load: usize, now: Time) {
        if matches!(self.loads[load].arrivals, Arrivals::Parallel(_)) && self.is_on(load, now) {
            self.arrive(load, now);
        }
    }

    fn schedule(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    /// Xorshift: the same day with each choice and each run.
    fn random_in(&mut self, from: u64, to: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        from + self.random % (to - from)
    }
}

/// The figures of one kind of call in a part of the day, times in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Figures {
    calls: usize,
    rejected: usize,
    p50: u64,
    p99: u64,
    longest: u64,
}

fn figures(calls: &[(Kind, Call)], kind: Kind, (from, until): (Time, Time)) -> Figures {
    let of_phase = |call: &&Call| (from..until).contains(&call.arrived);
    let calls: Vec<_> =
        calls.iter().filter(|(of, _)| *of == kind).map(|(_, call)| call).filter(of_phase).collect();
    let mut times: Vec<_> = calls
        .iter()
        .filter_map(|call| call.ended.filter(|(_, answered)| *answered).map(|(end, _)| end - call.arrived))
        .collect();
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or(0);
    Figures {
        calls: times.len(),
        rejected: calls.len() - times.len(),
        p50: at(50) / MILLISECOND,
        p99: at(99) / MILLISECOND,
        longest: times.last().copied().unwrap_or(0) / MILLISECOND,
    }
}

fn print(title: &str, calls: &[(Kind, Call)], kind: Kind) {
    for (name, from, until) in PHASES {
        let of_phase = figures(calls, kind, (from, until));
        if of_phase.calls + of_phase.rejected > 0 {
            let Figures { calls, rejected, p50, p99, longest } = of_phase;
            eprintln!(
                "{title:9} {:7} {name:24} {calls:6} calls, p50 {p50:6} ms, p99 {p99:6} ms, longest {longest:6} ms, \
                 {rejected} rejected",
                format!("{kind:?}")
            );
        }
    }
}

/// The wait of windows stays short whatever runs beside them, and nothing that runs beside them starves.
#[test]
fn windows_stay_quick_all_day() {
    let midnight = Instant::now();
    let arrival = Day::new(Policy::Arrival { waiting: VecDeque::new(), busy: 0 }, midnight).run();
    let scheduler = Box::new(Scheduler::new(LIMITS, midnight));
    let fair = Day::new(Policy::Fair { scheduler, calls: HashMap::new() }, midnight).run();
    for (title, calls) in [("arrival", &arrival), ("scheduler", &fair)] {
        for kind in [Kind::Window, Kind::Storage, Kind::Agent, Kind::Script, Kind::Backup, Kind::Login] {
            print(title, calls, kind);
        }
    }
    let windows = |calls, phase: usize| {
        let (_, from, until) = PHASES[phase];
        figures(calls, Kind::Window, (from, until))
    };
    // Beside slow calls one worker is left, and a call of the agent keeps it for up to 80 ms.
    let limits = [(12, 40), (30, 80), (40, 100), (30, 100), (60, 150), (40, 100)];
    for (phase, (p50, p99)) in limits.into_iter().enumerate() {
        let (now, before) = (windows(&fair, phase), windows(&arrival, phase));
        let (name, ..) = PHASES[phase];
        assert!(now.p50 <= p50 && now.p99 <= p99, "{name}: {now:?}");
        assert!(now.p99 <= before.p99 || phase == 0, "{name}: {now:?}, in order of arrival {before:?}");
    }
    let whole = (0, 24 * HOUR);
    for kind in [Kind::Window, Kind::Agent, Kind::Script, Kind::Backup, Kind::Login] {
        let (now, before) = (figures(&fair, kind, whole), figures(&arrival, kind, whole));
        assert_eq!(now.rejected, 0, "{kind:?}");
        // Slow calls had three workers, and now they have two.
        let share = if kind == Kind::Backup { 62 } else { 95 };
        assert!(now.calls * 100 >= before.calls * share, "{kind:?}: {now:?}, in order of arrival {before:?}");
    }
}
