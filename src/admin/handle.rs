//! The door to the running process: what can be asked of it beside signals. Cloned freely; each question has an answer.

use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use crate::config::diagnostic::Origin;
use crate::config::diagnostic::Problem;

/// Questions that may wait while a reload is under way.
const WAITING: usize = 16;

/// What came of a reload.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// keys whose value in force is another one now
    pub changed: Vec<&'static str>,
    /// what is wrong, but can be served with
    pub warnings: Vec<Problem>,
    /// the process that took over, where the binary was replaced
    pub successor: Option<u32>,
}

/// Why nothing was changed: everything that is wrong.
pub type Reloaded = Result<Summary, Vec<Problem>>;

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
pub enum Confirmed {
    Kept,
    NothingWaits,
    /// too late: what the files still hold, each with its place
    TakenBack(Vec<String>),
}

/// A question on its way to the main thread.
pub(crate) enum Question {
    Reload { how: HowToReload, answer: oneshot::Sender<Reloaded> },
    Confirm(oneshot::Sender<Confirmed>),
    Revert(oneshot::Sender<Reloaded>),
}

/// Asks the main thread.
#[derive(Clone)]
pub struct Door(Sender<Question>);

impl Door {
    pub(crate) fn new() -> (Self, Receiver<Question>) {
        let (sender, receiver) = channel(WAITING);
        (Self(sender), receiver)
    }

    /// Loads the whole configuration again, and puts it in effect if nothing is wrong with it. With `confirm` it is
    /// taken back after so long, unless `confirm` is called before; it then never starts a new binary.
    pub async fn reload(&self, how: HowToReload) -> Reloaded {
        self.ask(|answer| Question::Reload { how, answer }).await.unwrap_or_else(|| Err(gone()))
    }

    /// Keeps what a reload with `confirm` has put in effect.
    pub async fn confirm(&self) -> Confirmed {
        self.ask(Question::Confirm).await.unwrap_or(Confirmed::NothingWaits)
    }

    /// Takes back what waits for `confirm`, now.
    pub async fn revert(&self) -> Reloaded {
        self.ask(Question::Revert).await.unwrap_or_else(|| Err(gone()))
    }

    /// `None` where the process ends before it answers.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.0.send(question(answer)).await.ok()?;
        answered.await.ok()
    }
}

fn gone() -> Vec<Problem> {
    vec![Problem::error(Origin::Profile, "", "the process is about to end")]
}
