//! Calls that are not answered before the test says so, whatever time the machine takes.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// The names whose calls may be answered.
#[derive(Debug, Default)]
pub(crate) struct Held(watch::Sender<BTreeSet<String>>);

impl Held {
    pub(crate) fn release(&self, name: &str) {
        self.0.send_modify(|released| {
            released.insert(name.to_owned());
        });
    }

    pub(crate) async fn wait(&self, name: Option<&str>) {
        let Some(name) = name else { return };
        let mut released = self.0.subscribe();
        let _ = released.wait_for(|released| released.contains(name)).await;
    }
}
