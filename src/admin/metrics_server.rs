//! The listener for monitors: metrics, the status page, and the health checks of the port. It runs in tasks of the main
//! thread, so it does not delay requests.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::event_stream;
use crate::admin::monitoring_request::{self, MonitoringClient};
use crate::admin::status_page::StatusPage;
use crate::admin::status_reporter::StatusReporter;
use crate::config::settings::BackendAddress;
use crate::os::file_version::OwnFile;
use crate::proxy::handlers::App;

/// Limit of concurrent clients.
const MAX_CLIENTS: usize = 16;
/// Deadline of one client, from the connection to its end.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(15);
/// Delay before the bind of an address in use is tried again; the predecessor may still have it.
const BIND_INTERVAL: Duration = Duration::from_secs(1);
/// Attempts before a warning about an address in use. A predecessor is faster.
const TAKEN_ATTEMPTS: u32 = 3;
/// On a trial another process usually has the address for good, so the trial gives it up after so many attempts.
const TRIAL_ATTEMPTS: u32 = 5;
/// How long a start or a reload waits for the first bind of the address.
const FIRST_BIND_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the process waits for clients that still read a response when it stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The listener while it is open, by the current settings.
pub struct MetricsServer {
    state: Arc<MetricsServerState>,
    listening: Option<(BackendAddress, JoinHandle<()>)>,
    /// resolves after the first bind of that address
    first_bind: Option<oneshot::Receiver<()>>,
}

/// A listening socket. The file of a Unix socket goes with it.
struct BoundSocket {
    listener: Either<TcpListener, UnixListener>,
    _file: Option<OwnFile>,
}

/// State that the clients of the listener share.
pub(super) struct MetricsServerState {
    app: Mutex<App>,
    pub(super) reporter: Arc<StatusReporter>,
    pub(super) page: StatusPage,
    pub(super) streams: Arc<Semaphore>,
    /// cancelled when the streams of the current configuration have to end
    end: Mutex<CancellationToken>,
    clients: TaskTracker,
}

impl MetricsServer {
    pub(crate) fn new(app: App, reporter: Arc<StatusReporter>) -> Self {
        let state = MetricsServerState {
            app: Mutex::new(app.clone()),
            reporter,
            page: StatusPage::new(),
            streams: Arc::new(Semaphore::new(event_stream::MAX_STREAMS)),
            end: Mutex::default(),
            clients: TaskTracker::new(),
        };
        let mut server = Self { state: Arc::new(state), listening: None, first_bind: None };
        server.serves(app);
        server
    }

    /// Takes the current configuration. The listener moves if the settings say so. Streams end, and their clients
    /// connect again under the new settings.
    pub fn serves(&mut self, app: App) {
        let wanted = app.state.config.settings.monitoring.listen.clone();
        *self.state.app.lock().unwrap_or_else(PoisonError::into_inner) = app;
        self.state.end_streams();
        if self.listening.as_ref().map(|(address, _)| address) == wanted.as_ref() {
            return;
        }
        self.close();
        let Some(address) = wanted else { return };
        let (attempted, first_bind) = oneshot::channel();
        let task = tokio::spawn(listen(address.clone(), Arc::clone(&self.state), attempted));
        self.listening = Some((address, task));
        self.first_bind = Some(first_bind);
    }

    /// Waits for the first bind of the address, so a monitor can connect as soon as a start or a reload is reported.
    pub async fn wait_for_first_bind(&mut self) {
        if let Some(first_bind) = self.first_bind.take() {
            let _ = timeout(FIRST_BIND_TIMEOUT, first_bind).await;
        }
    }

    /// Closes the listener, and waits a moment for its clients.
    pub async fn stop(mut self) {
        self.close();
        self.state.clients.close();
        let _ = timeout(CLOSE_TIMEOUT, self.state.clients.wait()).await;
    }

    /// Closes the listener, so the address is free for another process. Streams end.
    pub fn close(&mut self) {
        self.state.end_streams();
        if let Some((_, task)) = self.listening.take() {
            task.abort();
        }
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.close();
    }
}

impl MetricsServerState {
    pub(super) fn app(&self) -> App {
        self.app.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cancelled at the next reload, and when the process stops.
    pub(super) fn end(&self) -> CancellationToken {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn end_streams(&self) {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *end).cancel();
    }

    fn admits(&self, address: IpAddr) -> bool {
        self.app().state.config.settings.monitoring.allow_from.contains(address.to_canonical())
    }
}

/// Runs until it is aborted, or gives up on a trial. Without this listener the process still serves. `attempted`
/// is dropped after the first bind.
async fn listen(address: BackendAddress, state: Arc<MetricsServerState>, attempted: oneshot::Sender<()>) {
    let is_beside_another = state.app().state.config.is_beside_another();
    let mut attempted = Some(attempted);
    for attempt in 1_u32.. {
        let bound = bind(&address).await;
        drop(attempted.take());
        let ended = match bound {
            Ok(socket) => serve(&socket.listener, &state).await,
            Err(error) => error,
        };
        let is_taken = ended.kind() == io::ErrorKind::AddrInUse;
        if is_beside_another && is_taken && attempt == TRIAL_ATTEMPTS {
            tracing::warn!(
                "metrics.listen: {address}: {ended}; this trial has no metrics: for its own set another address, \
                 such as --set metrics.listen=127.0.0.1:PORT"
            );
            return;
        }
        let warned_attempt = if is_taken { TAKEN_ATTEMPTS } else { 1 };
        if attempt == warned_attempt && !(is_beside_another && is_taken) {
            tracing::warn!("metrics.listen: {address}: {ended}; trying again every second");
        }
        sleep(BIND_INTERVAL).await;
    }
}

async fn bind(address: &BackendAddress) -> io::Result<BoundSocket> {
    match address {
        BackendAddress::Tcp(address) => {
            let listener = TcpListener::bind(address).await?;
            Ok(BoundSocket { listener: Either::Left(listener), _file: None })
        }
        BackendAddress::Unix(path) => bind_file(path),
    }
}

/// Replaces a socket without a listener; an existing listener or other file stays.
fn bind_file(path: &Path) -> io::Result<BoundSocket> {
    let is_left = fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path).is_err();
    if is_left {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let file = OwnFile::new(path.to_owned())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(BoundSocket { listener: Either::Right(listener), _file: Some(file) })
}

async fn serve(listener: &Either<TcpListener, UnixListener>, state: &Arc<MetricsServerState>) -> io::Error {
    let room = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return io::ErrorKind::Other.into() };
        let accepted = match listener {
            Either::Left(listener) => listener.accept().await.map(|(stream, peer)| {
                let local = stream.local_addr().ok().map(|local| local.ip().to_canonical());
                (Either::Left(stream), MonitoringClient::new(Some(peer.ip().to_canonical()), local))
            }),
            Either::Right(listener) => {
                listener.accept().await.map(|(it, _)| (Either::Right(it), MonitoringClient::new(None, None)))
            }
        };
        match accepted {
            Ok((_, MonitoringClient { peer: Some(peer), .. })) if !state.admits(peer) => {
                tracing::debug!(%peer, "connection to metrics.listen rejected");
            }
            Ok((stream, client)) => {
                state.clients.spawn(serve_client(stream, client, Arc::clone(state), permit));
            }
            Err(error) => return error,
        }
    }
}

/// Serves one request. Events may take longer than other responses.
async fn serve_client(
    stream: Either<TcpStream, UnixStream>,
    client: MonitoringClient,
    state: Arc<MetricsServerState>,
    _place: OwnedSemaphorePermit,
) {
    let client = Arc::new(client);
    let asked = Arc::clone(&client);
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, client) = (Arc::clone(&state), Arc::clone(&asked));
        async move { Ok::<_, Infallible>(monitoring_request::answer(&request, &client, &state).await) }
    });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    if timeout(CLIENT_TIMEOUT, connection.as_mut()).await.is_err() && client.has_events() {
        let _ = timeout(event_stream::MAX_DURATION + CLIENT_TIMEOUT, connection).await;
    }
}
