//! The next configuration on its way, or the next binary: away from the main thread, and not for ever.

use std::sync::Arc;
use std::time::{Duration, Instant as Now};

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use crate::admin::handle::{HowToReload, Reloaded};
use crate::config::Difference;
use crate::config::diagnostic::{Origin, Problem};
use crate::os::executable::Binary;
use crate::os::listener::Listening;
use crate::os::sandbox;
use crate::server::config_loader::{Loaded, Source};
use crate::server::upgrade::{Inheritance, Sockets, Successor};
use crate::state::shared::Lasting;

/// A cluster's file system may hang; the configuration in force then stays.
const LONGEST: Duration = Duration::from_secs(20);
/// A successor has its own deadline, which ends before.
const LONGEST_START: Duration = Duration::from_mins(1);

/// What came of it.
pub(super) enum Next {
    Configuration(Loaded),
    Process(Successor),
}

pub(super) struct Loading {
    task: JoinHandle<Result<Next, Vec<Problem>>>,
    until: Instant,
    pub(super) wanted: Wanted,
}

/// How it was asked for.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) how: HowToReload,
    /// who wants to know; nobody after a signal
    pub(super) answer: Option<oneshot::Sender<Reloaded>>,
}

impl Loading {
    /// Refused where the files have all of the `unwanted` values.
    pub(super) fn configuration(
        source: &Source,
        lasting: &Lasting,
        known: &[Problem],
        unwanted: Option<Difference>,
        wanted: Wanted,
    ) -> Self {
        let (source, lasting, known) = (source.clone(), lasting.clone(), known.to_vec());
        let task = spawn_blocking(move || {
            source.refuse(unwanted.as_ref())?;
            source.load(&lasting, &known).map(Next::Configuration)
        });
        Self { task, until: Instant::now() + LONGEST, wanted }
    }

    pub(super) fn process(
        binary: &Arc<Binary>,
        lasting: &Lasting,
        known: &[Problem],
        listening: &Listening,
        wanted: Wanted,
        check: impl FnOnce() -> Result<(), Vec<Problem>> + Send + 'static,
    ) -> Self {
        let binary = Arc::clone(binary);
        let (bound_for, first) = listening.first();
        let (others, other_sockets) =
            listening.others().map(|(bound_for, socket)| (bound_for.clone(), Arc::clone(socket))).unzip();
        let sockets = Sockets { first, others: other_sockets };
        let inheritance = Inheritance {
            bound_for,
            others,
            tickets: lasting.tickets.leave(Now::now()),
            known: known.iter().map(ToString::to_string).collect(),
            confined_to: sandbox::confined_to().map(<[_]>::to_vec),
        };
        let task = spawn_blocking(move || {
            check()?;
            let started = Successor::start(binary.path(), &inheritance, &sockets);
            started.map(Next::Process).map_err(|why| vec![Problem::file_error(binary.path(), why)])
        });
        Self { task, until: Instant::now() + LONGEST_START, wanted }
    }

    /// Waits until it has come to its end; for ever where nothing is on its way.
    pub(super) async fn done(loading: &mut Option<Self>) -> Result<Next, Vec<Problem>> {
        let problem = |message: &str| vec![Problem::error(Origin::Profile, "", message)];
        let Some(Self { task, until, .. }) = loading else { return std::future::pending().await };
        match timeout_at(*until, task).await {
            Ok(Ok(next)) => next,
            Ok(Err(_)) => Err(problem("loading it failed")),
            Err(_) => Err(problem("the configuration could not be read in time")),
        }
    }
}
