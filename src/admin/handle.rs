//! The door to the running process: what can be asked of it beside signals. Cloned freely; each question has an answer.

use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use crate::config::diagnostic::Diagnostic;
use crate::config::diagnostic::ValueOrigin;

/// Questions that may wait while a reload is under way.
const WAITING: usize = 16;

/// What came of a reload.
#[derive(Clone, Debug, Default)]
pub struct ReloadSummary {
    /// keys whose value in force is another one now
    pub changed: Vec<&'static str>,
    /// what is wrong, but can be served with
    pub warnings: Vec<Diagnostic>,
    /// the process that took over, where the binary was replaced
    pub successor: Option<u32>,
}

/// Why nothing was changed: everything that is wrong.
pub(crate) type ReloadResult = Result<ReloadSummary, Vec<Diagnostic>>;

/// How a reload is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct HowToReload {
    /// taken back after so long, unless it is confirmed
    pub confirm: Option<Duration>,
    /// also settings that were taken back before
    pub force: bool,
}

/// What came of a confirmation.
#[derive(Clone, Debug)]
pub enum ConfirmOutcome {
    Kept,
    NothingWaits,
    /// too late: what the files still hold, each with its place
    TakenBack(Vec<String>),
}

/// A question on its way to the main thread.
pub(crate) enum SupervisorCommand {
    Reload { how: HowToReload, answer: oneshot::Sender<ReloadResult> },
    Confirm(oneshot::Sender<ConfirmOutcome>),
    Revert(oneshot::Sender<ReloadResult>),
}

/// Asks the main thread.
#[derive(Clone)]
pub struct SupervisorHandle(Sender<SupervisorCommand>);

impl SupervisorHandle {
    pub(crate) fn new() -> (Self, Receiver<SupervisorCommand>) {
        let (sender, receiver) = channel(WAITING);
        (Self(sender), receiver)
    }

    /// Loads the whole configuration again, and puts it in effect if nothing is wrong with it. With `confirm` it is
    /// taken back after so long, unless `confirm` is called before; it then never starts a new binary.
    pub async fn reload(&self, how: HowToReload) -> ReloadResult {
        self.ask(|answer| SupervisorCommand::Reload { how, answer }).await.unwrap_or_else(|| Err(gone()))
    }

    /// Keeps what a reload with `confirm` has put in effect.
    pub async fn confirm(&self) -> ConfirmOutcome {
        self.ask(SupervisorCommand::Confirm).await.unwrap_or(ConfirmOutcome::NothingWaits)
    }

    /// Takes back what waits for `confirm`, now.
    pub async fn revert(&self) -> ReloadResult {
        self.ask(SupervisorCommand::Revert).await.unwrap_or_else(|| Err(gone()))
    }

    /// `None` where the process ends before it answers.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> SupervisorCommand) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.0.send(question(answer)).await.ok()?;
        answered.await.ok()
    }
}

fn gone() -> Vec<Diagnostic> {
    vec![Diagnostic::error(ValueOrigin::Profile, "", "the process is about to end")]
}
