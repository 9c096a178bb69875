//! The main thread: signals, questions at the door, and the configuration that the workers go by.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Start;
use super::door::{Door, Question, Reloaded, Summary};
use super::source::{Loaded, Source};
use super::workers::Workers;
use crate::config::problem::{Origin, Problem};
use crate::control::Control;
use crate::engine::Lasting;
use crate::listener::Listening;
use crate::process::memory;
use crate::process::pid_file::PidFile;

/// A cluster's file system may hang; the configuration in force then stays.
const LOADING: Duration = Duration::from_secs(20);

pub(super) struct Supervisor {
    source: Source,
    lasting: Lasting,
    running: Loaded,
    listening: Listening,
    workers: Workers,
    signals: Signals,
    control: Control,
    pid_file: Option<PidFile>,
    loading: Option<Loading>,
    fallback: Option<Fallback>,
}

/// A configuration on its way.
struct Loading {
    task: JoinHandle<Result<Loaded, Vec<Problem>>>,
    until: Instant,
    confirm: Option<Duration>,
    /// who wants to know; nobody after a signal
    answer: Option<oneshot::Sender<Reloaded>>,
}

/// What is taken up again, unless somebody confirms in time what replaced it.
struct Fallback {
    loaded: Loaded,
    until: Instant,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What the main thread wakes up for.
enum Event {
    Stop,
    Hangup,
    Asked(Question),
    Loaded(Result<Loaded, Vec<Problem>>),
    TakeBack,
}

impl Supervisor {
    pub(super) fn start(start: Start, door: Door) -> io::Result<Self> {
        let Start { source, loaded, lasting, listening } = start;
        // Whoever reads the pid may signal at once.
        let signals = Signals::new()?;
        let pid_file = PidFile::write(&loaded.engine.config);
        let mut workers = Workers::new();
        workers.serve(&loaded.engine, &listening.sockets)?;
        let control = Control::open(door, &loaded.engine.config, &listening.sockets);
        control.serves(&loaded.engine, &listening.sockets);
        let (running, loading, fallback) = (loaded, None, None);
        Ok(Self {
            source,
            lasting,
            running,
            listening,
            workers,
            signals,
            control,
            pid_file,
            loading,
            fallback,
        })
    }

    /// Until a signal asks to stop; then the drain.
    pub(super) async fn run(mut self, mut questions: Receiver<Question>) -> io::Result<()> {
        let _ = sd_notify::notify(false, &[NotifyState::Ready]);
        self.say_where()?;
        loop {
            match self.next(&mut questions).await {
                Event::Stop => break,
                Event::Hangup => self.load(None, None),
                Event::Asked(question) => self.answer(question).await,
                Event::Loaded(loaded) => self.loaded(loaded).await,
                Event::TakeBack => {
                    let _ = self.take_back().await;
                }
            }
        }
        let _ = sd_notify::notify(false, &[NotifyState::Stopping]);
        drop(self.control); // nobody answers any more
        self.workers.stop();
        Ok(())
    }

    async fn next(&mut self, questions: &mut Receiver<Question>) -> Event {
        let idle = self.loading.is_none();
        let until = self.fallback.as_ref().map(|fallback| fallback.until);
        tokio::select! {
            biased;
            _ = self.signals.terminate.recv() => Event::Stop,
            _ = self.signals.interrupt.recv() => Event::Stop,
            loaded = Loading::done(&mut self.loading), if !idle => Event::Loaded(loaded),
            _ = self.signals.hangup.recv(), if idle => Event::Hangup,
            Some(question) = questions.recv(), if idle => Event::Asked(question),
            () = due(until), if idle => Event::TakeBack,
        }
    }

    async fn answer(&mut self, question: Question) {
        match question {
            Question::Reload { confirm, answer } => self.load(confirm, Some(answer)),
            Question::Confirm(answer) => {
                let waited = self.fallback.take().is_some();
                self.control.confirmed();
                let _ = answer.send(waited);
            }
            Question::Revert(answer) => {
                let _ = answer.send(self.take_back().await);
            }
        }
    }

    /// Begins to load the configuration. The log is opened again in any case: that is what most reloads are for.
    fn load(&mut self, confirm: Option<Duration>, answer: Option<oneshot::Sender<Reloaded>>) {
        let now = NotifyState::monotonic_usec_now().ok();
        let states: Vec<_> = [NotifyState::Reloading].into_iter().chain(now).collect();
        let _ = sd_notify::notify(false, &states);
        let running = &self.running.engine.config.settings;
        self.lasting.log.reopen(running.access_log.clone());
        let (source, lasting, known) =
            (self.source.clone(), self.lasting.clone(), self.running.problems.clone());
        let task = spawn_blocking(move || source.load(&lasting, &known));
        self.loading = Some(Loading { task, until: Instant::now() + LOADING, confirm, answer });
    }

    async fn loaded(&mut self, loaded: Result<Loaded, Vec<Problem>>) {
        let Some(Loading { confirm, answer, .. }) = self.loading.take() else { return };
        let before = self.running.clone();
        let reloaded = match loaded {
            Ok(loaded) => self.put_in_force(loaded).await,
            Err(problems) => Err(problems),
        };
        match &reloaded {
            Ok(summary) => {
                for warning in &summary.warnings {
                    tracing::warn!("{warning}");
                }
                let changed = summary.changed.join(", ");
                tracing::info!(changed, "reloaded");
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!("reload refused, serving as before: {problem}");
                }
            }
        }
        if let (Ok(_), Some(patience)) = (&reloaded, confirm) {
            let loaded = self.fallback.take().map_or(before, |fallback| fallback.loaded);
            self.fallback = Some(Fallback { loaded, until: Instant::now() + patience });
        }
        self.control.reloaded(&reloaded, confirm);
        let _ = sd_notify::notify(false, &[NotifyState::Ready]);
        if let Some(answer) = answer {
            let _ = answer.send(reloaded);
        }
    }

    /// Back to what was in force before a reload that nobody has confirmed.
    async fn take_back(&mut self) -> Reloaded {
        let Some(Fallback { loaded, .. }) = self.fallback.take() else {
            return Err(vec![Problem::error(Origin::Profile, "", "nothing waits to be confirmed")]);
        };
        let taken_back = self.put_in_force(loaded).await;
        self.control.taken_back();
        match &taken_back {
            Ok(summary) => tracing::warn!(changed = summary.changed.join(", "), "reload taken back"),
            Err(problems) => {
                for problem in problems {
                    tracing::error!("a reload cannot be taken back: {problem}");
                }
            }
        }
        taken_back
    }

    /// From now on everybody goes by this configuration. New sockets are bound before the old ones are given up, and
    /// where that fails nothing has changed.
    async fn put_in_force(&mut self, loaded: Loaded) -> Reloaded {
        let config = &loaded.engine.config;
        let moved = self.listening.moved_to(&config.settings.listen).map_err(|error| {
            vec![Problem::error(config.origin("listen.address"), "listen.address", error.to_string())]
        })?;
        let sockets = moved.as_ref().map_or(&self.listening.sockets, |moved| &moved.sockets);
        self.workers
            .serve(&loaded.engine, sockets)
            .map_err(|error| vec![Problem::error(config.origin("workers"), "workers", error.to_string())])?;
        if config.settings.access_log != self.running.engine.config.settings.access_log {
            self.lasting.log.reopen(config.settings.access_log.clone());
        }
        let changed = config.differences(&self.running.engine.config);
        let warnings = loaded.problems.clone();
        self.running = loaded;
        self.move_pid_file();
        for worker in self.workers.ask().silent().await {
            tracing::error!(worker, "a worker gives no sign of life");
        }
        if let Some(moved) = moved {
            self.listening = moved;
            let _ = self.say_where();
        }
        self.control.serves(&self.running.engine, &self.listening.sockets);
        memory::give_back();
        Ok(Summary { changed, warnings, successor: None })
    }

    fn move_pid_file(&mut self) {
        let config = &self.running.engine.config;
        let place = PidFile::place(config);
        if self.pid_file.as_ref().map(PidFile::path) != place.as_deref() {
            self.pid_file = None;
            self.pid_file = PidFile::write(config);
        }
    }

    fn say_where(&self) -> io::Result<()> {
        for socket in &*self.listening.sockets {
            tracing::info!("listening on {}", socket.local_addr()?);
        }
        Ok(())
    }
}

impl Loading {
    /// What came of it, once it has come to its end.
    async fn done(loading: &mut Option<Self>) -> Result<Loaded, Vec<Problem>> {
        let problem = |message: &str| vec![Problem::error(Origin::Profile, "", message)];
        let Some(Self { task, until, .. }) = loading else { return std::future::pending().await };
        match timeout_at(*until, task).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(_)) => Err(problem("loading it failed")),
            Err(_) => Err(problem("the configuration could not be read in time")),
        }
    }
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

async fn due(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
