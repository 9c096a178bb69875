//! The door to the running process: what can be asked of it beside signals. Cloned freely; each question has an answer.

use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use crate::config::problem::Origin;
use crate::config::problem::Problem;

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

/// A question on its way to the main thread.
pub(super) enum Question {
    Reload { confirm: Option<Duration>, answer: oneshot::Sender<Reloaded> },
    Confirm(oneshot::Sender<bool>),
    Revert(oneshot::Sender<Reloaded>),
}

/// Asks the main thread.
#[derive(Clone)]
pub struct Door(Sender<Question>);

impl Door {
    pub(super) fn new() -> (Self, Receiver<Question>) {
        let (sender, receiver) = channel(WAITING);
        (Self(sender), receiver)
    }

    /// Loads the whole configuration anew, and puts it in force if nothing is wrong with it. With `confirm` it is
    /// taken back after so long, unless `confirm` is called before; it then never starts a new binary.
    pub async fn reload(&self, confirm: Option<Duration>) -> Reloaded {
        self.ask(|answer| Question::Reload { confirm, answer }).await.unwrap_or_else(|| Err(gone()))
    }

    /// Keeps what a reload with `confirm` has put in force; `false` where nothing waits for that.
    pub async fn confirm(&self) -> bool {
        self.ask(Question::Confirm).await.unwrap_or(false)
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
