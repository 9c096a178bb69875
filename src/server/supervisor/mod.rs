//! The main thread: signals, questions at the door, and the configuration that the workers go by.

mod certificates;
mod reload;

use std::io;
use std::sync::{Arc, Mutex};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::Start;
use super::timers::{Due, Timers};
use crate::admin::handle::{Confirmed, Door, Question};
use crate::admin::metrics_server::Monitor;
use crate::admin::protocol::Control;
use crate::config::Difference;
use crate::config::diagnostic::Problem;
use crate::metrics::{counters, report};
use crate::os::executable::Binary;
use crate::os::listener::Listening;
use crate::os::log_limit;
use crate::os::pid_file::PidFile;
use crate::os::systemd;
use crate::server::config_loader::{Loaded, Source};
use crate::server::pending_reload::{Loading, Next, Wanted};
use crate::server::upgrade::Predecessor;
use crate::server::worker_pool::Workers;
use crate::state::shared::Lasting;
use crate::tls::certificate_reloader::Renewals;

pub(super) struct Supervisor {
    source: Source,
    binary: Arc<Binary>,
    lasting: Lasting,
    running: Loaded,
    listening: Listening,
    workers: Workers,
    signals: Signals,
    control: Control,
    monitor: Monitor,
    timers: Timers,
    predecessor: Option<Predecessor>,
    pid_file: Option<PidFile>,
    renewals: Arc<Mutex<Renewals>>,
    looking: Option<JoinHandle<()>>,
    /// what the log has said of lists of revoked certificates
    list_problems: Arc<Mutex<Vec<Problem>>>,
    /// what systemd was told last
    status: String,
    loading: Option<Loading>,
    fallback: Option<Fallback>,
    /// what nobody confirmed: a reload does not put exactly this in effect again
    taken_back: Option<Difference>,
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
    Loaded(Result<Next, Vec<Problem>>),
    TakeBack,
    Due(Due),
}

impl Supervisor {
    pub(super) fn start(start: Start, door: Door) -> io::Result<Self> {
        let Start { source, binary, loaded, lasting, listening, mut predecessor } = start;
        // Whoever reads the pid may signal at once.
        let signals = Signals::new()?;
        let mut workers = Workers::new();
        workers.serve(&loaded.engine, &listening.sockets)?;
        if let Some(predecessor) = &mut predecessor {
            predecessor.take_over()?;
        }
        let pid_file = PidFile::write(&loaded.engine.config);
        let control = Control::open(door, &loaded.engine.config, &listening.sockets);
        control.serves(&loaded.engine, &listening.sockets);
        if let Some(predecessor) = &predecessor {
            predecessor.serves();
        }
        let monitor = Monitor::new(control.facts(), Arc::clone(&loaded.engine));
        Ok(Self {
            source,
            binary: Arc::new(binary),
            lasting,
            running: loaded,
            listening,
            workers,
            signals,
            control,
            monitor,
            timers: Timers::start(),
            predecessor,
            pid_file,
            renewals: Arc::default(),
            looking: None,
            list_problems: Arc::default(),
            status: String::new(),
            loading: None,
            fallback: None,
            taken_back: None,
        })
    }

    /// Until a signal asks to stop, or a successor serves and the last client here has gone.
    pub(super) async fn run(mut self, mut questions: Receiver<Question>) -> io::Result<()> {
        systemd::ready();
        self.listening.say_where()?;
        let successor = loop {
            match self.next(&mut questions).await {
                Event::Stop => break None,
                Event::Hangup => self.reload(Wanted::default()),
                Event::Asked(question) => self.answer(question).await,
                Event::Loaded(next) => {
                    if let Some(successor) = self.loaded(next).await {
                        break Some(successor);
                    }
                }
                Event::TakeBack => {
                    let _ = self.take_back().await;
                }
                Event::Due(due) => self.do_due(due),
            }
        };
        drop(questions); // nobody is answered any more
        counters::drains();
        let stops = match successor {
            None => {
                systemd::stopping();
                true
            }
            Some(successor) => self.leave_to(successor).await?,
        };
        if let Some(predecessor) = self.predecessor.as_ref().filter(|_| stops) {
            predecessor.stop();
        }
        drop(self.control);
        // Monitors are told meanwhile that it drains.
        let workers = self.workers;
        let _ = spawn_blocking(move || workers.stop()).await;
        drop(self.monitor);
        log_limit::log_rest();
        Ok(())
    }

    async fn next(&mut self, questions: &mut Receiver<Question>) -> Event {
        let idle = self.loading.is_none();
        let until = self.fallback.as_ref().map(|fallback| fallback.until);
        tokio::select! {
            biased;
            _ = self.signals.terminate.recv() => Event::Stop,
            _ = self.signals.interrupt.recv() => Event::Stop,
            next = Loading::done(&mut self.loading), if !idle => Event::Loaded(next),
            _ = self.signals.hangup.recv(), if idle => Event::Hangup,
            Some(question) = questions.recv(), if idle => Event::Asked(question),
            () = due(until), if idle => Event::TakeBack,
            due = self.timers.next() => Event::Due(due),
        }
    }

    async fn answer(&mut self, question: Question) {
        match question {
            Question::Reload { how, answer } => self.reload(Wanted { how, answer: Some(answer) }),
            Question::Confirm(answer) => {
                let _ = answer.send(self.confirm());
            }
            Question::Revert(answer) => {
                let _ = answer.send(self.take_back().await);
            }
        }
    }

    fn confirm(&mut self) -> Confirmed {
        if self.fallback.take().is_some() {
            self.control.confirmed();
            self.forget_taken_back();
            return Confirmed::Kept;
        }
        match &self.taken_back {
            Some(difference) => Confirmed::TakenBack(difference.places()),
            None => Confirmed::NothingWaits,
        }
    }

    fn do_due(&mut self, due: Due) {
        match due {
            Due::Watchdog => {
                let asked = self.workers.ask();
                tokio::spawn(async move {
                    let silent = asked.silent().await;
                    if silent.is_empty() {
                        systemd::alive();
                    }
                    complain_of(&silent);
                });
            }
            Due::Status => self.tell_status(),
            Due::Certificates => self.look_at_certificates(),
            Due::Expiry => self.warn_of_expiry(),
            Due::KeptLines => log_limit::log_kept(),
        }
    }

    /// What `systemctl status` shows, when it has changed.
    fn tell_status(&mut self) {
        let status = report::status_line();
        if status != self.status {
            systemd::status(&status);
            self.status = status;
        }
    }
}

fn complain_of(silent: &[String]) {
    for worker in silent {
        tracing::error!(worker, "a worker gives no sign of life");
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
