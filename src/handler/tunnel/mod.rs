//! `CONNECT` with a signed ticket: to a port of this node, or to the same door of another one.

mod endpoint;
mod error;
mod next_hop;
mod rules;
mod upstream_endpoint;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use nodegate_spice::head::read_head;
use nodegate_spice::{ConnectHead, HeadError, ticket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

pub use self::rules::TunnelRules;
use crate::handler::tunnel::endpoint::FarEnd;
pub use crate::handler::tunnel::endpoint::{TunnelEndpoint, keep_alive};
use crate::handler::tunnel::error::TunnelError;
use crate::http::access_log::LogEntry;
use crate::metrics::counters;
use crate::metrics::counters::FinishedResponse;
use crate::metrics::labels::RequestDestination;
use crate::net::acl::PeerIp;
use crate::os::log_limit;
use crate::os::log_limit::LogTopic;
use crate::os::log_text::shortened;
use crate::proxy::recheck::until_denied;
use crate::proxy::request::ClientConnection;
use crate::server::WorkerThread;
use crate::state::shared::AppState;
use crate::time::recent;

/// For a client to take a refusal.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A connection on which a tunnel may be asked for.
pub struct TunnelClient<'a> {
    pub stream: TunnelEndpoint,
    /// what was read of it before
    pub early: Vec<u8>,
    pub client: &'a ClientConnection,
    /// when its head has to be there
    pub until: Instant,
}

/// Serves one connection: head, ticket, far end, then bytes both ways until both ends are done, the client is no longer
/// admitted, or nodegate stops.
pub async fn serve(thread: &WorkerThread, mut caller: TunnelClient<'_>) {
    let worker = thread.worker();
    let idle = worker.engine.config.settings.timeout.tunnel;
    let trust = Rc::clone(&caller.client.trust);
    let opening = Box::pin(trust.unless_turned_out(open(&worker.engine, &mut caller)));
    let opened = thread.stop.run_until_cancelled(opening).await.flatten().flatten();
    drop(worker); // a tunnel may outlive many configurations
    if let Some((mut server, early)) = opened {
        let peer = caller.client.peer.address();
        let denied = until_denied(thread, caller.client, peer);
        let client = (&mut caller.stream, early.as_slice());
        crate::handler::tunnel::endpoint::run(client, &mut server, (peer, idle), (&thread.stop, denied))
            .await;
    }
}

/// The far end, once the client has been told that it is there, and what the client has sent it already.
async fn open(engine: &AppState, caller: &mut TunnelClient<'_>) -> Option<(FarEnd, Vec<u8>)> {
    let rules = engine.tunnels.as_deref()?;
    let head = match timeout_at(caller.until, head_of(caller, rules)).await {
        Ok(Ok(head)) => head,
        Ok(Err(HeadError::Closed | HeadError::Io(_))) => return None,
        Ok(Err(error)) => return refuse(engine, caller, "-", 0, TunnelError::of_head(&error)).await,
        Err(_) => return refuse(engine, caller, "-", 0, TunnelError::HeadTimeout).await,
    };
    recent::refresh();
    let line = format!("{} {} HTTP/1.{}", head.method, ticket::mask(&head.target), head.minor_version);
    let version = head.minor_version;
    let far_end = match caller.client.excess() {
        Some(excess) => Err(TunnelError::Excess(excess)),
        None => crate::handler::tunnel::upstream_endpoint::reach(engine, rules, &head, caller.client).await,
    };
    match far_end {
        Ok(server) => {
            log(engine, caller.client.peer, &line, 200, None);
            let welcome = format!("HTTP/1.{version} 200 OK\r\n\r\n");
            caller.stream.write_all(welcome.as_bytes()).await.ok()?;
            caller.stream.flush().await.ok()?;
            Some((server, head.early))
        }
        Err(refusal) => refuse(engine, caller, &line, version, refusal).await,
    }
}

/// What was read before goes first.
async fn head_of(caller: &mut TunnelClient<'_>, rules: &TunnelRules) -> Result<ConnectHead, HeadError> {
    let mut before = caller.early.as_slice();
    let mut reader = (&mut before).chain(&mut caller.stream);
    let mut head = read_head(&mut reader, &rules.limits, &rules.names).await?;
    head.early.extend_from_slice(before);
    Ok(head)
}

/// Says no; there is no tunnel.
async fn refuse<T>(
    engine: &AppState,
    caller: &mut TunnelClient<'_>,
    line: &str,
    version: u8,
    refusal: TunnelError,
) -> Option<T> {
    use std::error::Error as _;
    let cause = refusal.source().map_or_else(String::new, |cause| format!(": {cause}"));
    let status = refusal.status();
    if let TunnelError::Excess(excess) = refusal {
        counters::limited(excess.limit());
    }
    let TunnelClient { stream, client, .. } = caller;
    let peer = client.peer;
    let address = peer.address();
    if !(refusal.is_failed_login() && engine.counted(peer, address).is_some()) {
        let message = format!("tunnel refused to {address} with {status}: {refusal}{cause}");
        let message = shortened(&message, 2 * log_limit::MAX_CLIENT_TEXT_BYTES);
        log_limit::warn(LogTopic::Tunnel, &log_limit::site(address).to_string(), &message);
    }
    log(engine, peer, line, status, u64::try_from(refusal.to_string().len()).ok());
    let _ = timeout(LAST_WORDS, async {
        stream.write_all(&refusal.answer(version)).await?;
        stream.shutdown().await?;
        // What is still on its way would make the system throw the answer away.
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
    None
}

fn log(engine: &AppState, peer: PeerIp, line: &str, status: u16, bytes: Option<u64>) {
    let answer =
        FinishedResponse { destination: RequestDestination::Tunnel, status, bytes: 0, started: None };
    counters::answered(answer, recent::now());
    engine.log.write(&LogEntry { bytes, ..LogEntry::new(peer.address(), line, status) });
}
