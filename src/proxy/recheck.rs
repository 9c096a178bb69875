//! Whether the client of a console or a tunnel is still admitted: it asks nothing any more at which that could be judged.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::proxy::request::ClientConnection;
use crate::server::{WorkerContext, WorkerThread};
use crate::tls::CertificateFault;

/// Between two looks at the setting, which a reload may change.
const STEP: Duration = Duration::from_secs(5);

/// Why a client that is connected is no longer admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AdmissionLost {
    #[error("the access list denies its address")]
    AccessList,
    #[error("its listener now asks for TLS, a certificate or a PROXY header that it did not bring")]
    Listener,
    #[error("{0}")]
    Certificate(CertificateFault),
}

/// Returns once the configuration in effect denies the client; `real` is whom a proxy has named. It looks every
/// `console.recheck` seconds.
pub async fn until_denied(thread: &WorkerThread, client: &ClientConnection, real: IpAddr) -> AdmissionLost {
    let mut checked = Instant::now();
    loop {
        let pause = thread.worker().engine.config.settings.console_recheck;
        sleep(pause.unwrap_or(STEP).min(STEP)).await;
        let worker = thread.worker();
        let pause = worker.engine.config.settings.console_recheck;
        if pause.is_none_or(|pause| checked.elapsed() < pause) {
            continue;
        }
        checked = Instant::now();
        if let Some(denied) = denial(&worker, client, real) {
            tracing::info!(
                peer = %client.peer.address(), client = %real, listener = &*client.listener(),
                "console or tunnel closed: {denied}"
            );
            return denied;
        }
    }
}

fn denial(worker: &WorkerContext, client: &ClientConnection, real: IpAddr) -> Option<AdmissionLost> {
    let named = client.named(&worker.engine, real);
    let is_real_denied = || !client.is_real_admitted(&worker.engine, named);
    client.denial(worker).or_else(|| is_real_denied().then_some(AdmissionLost::AccessList))
}
