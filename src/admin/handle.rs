//! A handle to the running process, for commands beyond signals. It is cheap to clone; each command has a response.

use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use crate::config::diagnostic::{Diagnostic, ValueOrigin};

/// Limit of commands that wait during a reload.
const MAX_WAITING_COMMANDS: usize = 16;

/// The result of a successful reload.
#[derive(Clone, Debug, Default)]
pub struct ReloadSummary {
    /// keys whose value in effect has changed
    pub changed: Vec<&'static str>,
    /// problems that do not prevent serving
    pub warnings: Vec<Diagnostic>,
    /// the process that took over, if the binary was replaced
    pub successor: Option<u32>,
}

/// The errors if nothing was changed.
pub(crate) type ReloadResult = Result<ReloadSummary, Vec<Diagnostic>>;

#[derive(Clone, Copy, Debug, Default)]
pub struct HowToReload {
    /// the reload is reverted after this time, unless it is confirmed
    pub confirm: Option<Duration>,
    /// accepts settings that were reverted before
    pub force: bool,
}

/// The result of a confirmation.
#[derive(Clone, Debug)]
pub enum ConfirmOutcome {
    Kept,
    NothingWaits,
    /// too late: the settings that the files still have, each with its origin
    Reverted(Vec<String>),
}

/// A command on its way to the main thread.
pub(crate) enum SupervisorCommand {
    Reload { how: HowToReload, answer: oneshot::Sender<ReloadResult> },
    Confirm(oneshot::Sender<ConfirmOutcome>),
}

/// Sends commands to the main thread.
#[derive(Clone)]
pub struct SupervisorHandle(Sender<SupervisorCommand>);

impl SupervisorHandle {
    pub(crate) fn new() -> (Self, Receiver<SupervisorCommand>) {
        let (sender, receiver) = channel(MAX_WAITING_COMMANDS);
        (Self(sender), receiver)
    }

    /// Loads the whole configuration again, and puts it in effect if it has no errors. With `confirm` the reload
    /// never starts a new binary, and it is reverted after that time unless `confirm` is called first.
    pub async fn reload(&self, how: HowToReload) -> ReloadResult {
        let gone = || Err(vec![Diagnostic::error(ValueOrigin::Profile, "", "the process is about to end")]);
        self.send(|answer| SupervisorCommand::Reload { how, answer }).await.unwrap_or_else(gone)
    }

    /// Keeps the result of a reload with `confirm`.
    pub async fn confirm(&self) -> ConfirmOutcome {
        self.send(SupervisorCommand::Confirm).await.unwrap_or(ConfirmOutcome::NothingWaits)
    }

    /// `None` if the process ends before it responds.
    async fn send<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> SupervisorCommand) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.0.send(command(answer)).await.ok()?;
        answered.await.ok()
    }
}
