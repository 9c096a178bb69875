//! The recheck of the clients of consoles and tunnels, which send no more requests at which nodegate could verify them.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::proxy::worker_context::{Worker, WorkerContext};
use crate::state::client_connection::{AdmissionLost, ClientConnection};

/// Longest pause between two reads of the setting, which a reload may change.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Returns once the configuration in effect denies the client, checked every `console.recheck` seconds. `real` is the
/// address that a trusted proxy reported.
pub async fn until_denied(worker: &Worker, client: &ClientConnection, real: IpAddr) -> AdmissionLost {
    let mut checked = Instant::now();
    loop {
        let interval = worker.context().state.config.settings.console_recheck;
        sleep(interval.unwrap_or(POLL_INTERVAL).min(POLL_INTERVAL)).await;
        let context = worker.context();
        let interval = context.state.config.settings.console_recheck;
        if interval.is_none_or(|interval| checked.elapsed() < interval) {
            continue;
        }
        checked = Instant::now();
        if let Some(lost) = admission_lost(&context, client, real) {
            tracing::info!(
                peer = %client.client_ip.address(), client = %real, listener = &*client.listener(),
                "console or tunnel closed: {lost}"
            );
            return lost;
        }
    }
}

fn admission_lost(context: &WorkerContext, client: &ClientConnection, real: IpAddr) -> Option<AdmissionLost> {
    let state = &context.state;
    let named = client.reported_client(state, real);
    let is_real_denied = || !client.admits_reported_client(state, named);
    let lost = client.admission_lost(state, context.generation);
    lost.or_else(|| is_real_denied().then_some(AdmissionLost::AccessList))
}
