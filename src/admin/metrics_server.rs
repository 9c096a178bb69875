//! The listener for monitors: metrics, and the health checks of the port. It runs in tasks of the main thread, so it
//! does not delay requests.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::either::Either;

use crate::config::settings::BackendAddress;
use crate::net::allowed_hosts::HostName;
use crate::os::file_version::OwnFile;
use crate::proxy::handlers::App;
use crate::state::shared::AppState;

/// Limit of concurrent clients.
const MAX_CLIENTS: usize = 16;
/// Deadline of one client, from the connection to its end.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(15);
/// Delay before the bind of an address in use is tried again; the predecessor may still have it.
const BIND_INTERVAL: Duration = Duration::from_secs(1);
const OTHER_HOST: &str = "the host name of this request is not served here (setting metrics.hosts)\n";
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The listener while it is open, by the current settings.
pub struct MetricsServer {
    state: Arc<MetricsServerState>,
    listening: Option<(BackendAddress, JoinHandle<()>)>,
}

struct MetricsServerState {
    app: Mutex<App>,
}

impl MetricsServer {
    pub fn new(app: App) -> Self {
        let mut server =
            Self { state: Arc::new(MetricsServerState { app: Mutex::new(app.clone()) }), listening: None };
        server.serves(app);
        server
    }

    /// Takes the current configuration. The listener moves if the settings say so.
    pub fn serves(&mut self, app: App) {
        let wanted = app.state.config.settings.monitoring.listen.clone();
        *self.state.app.lock().unwrap_or_else(PoisonError::into_inner) = app;
        if self.listening.as_ref().map(|(address, _)| address) == wanted.as_ref() {
            return;
        }
        self.close();
        self.listening =
            wanted.map(|address| (address.clone(), tokio::spawn(listen(address, Arc::clone(&self.state)))));
    }

    /// Closes the listener, so the address is free for another process.
    pub fn close(&mut self) {
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
    fn app(&self) -> App {
        self.app.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn admits(&self, address: IpAddr) -> bool {
        self.app().state.config.settings.monitoring.allow_from.contains(address.to_canonical())
    }
}

/// Runs until it is aborted. Without this listener the process still serves.
async fn listen(address: BackendAddress, state: Arc<MetricsServerState>) {
    let mut is_logged = false;
    loop {
        let ended = match &address {
            BackendAddress::Tcp(address) => match TcpListener::bind(address).await {
                Ok(listener) => serve(&Either::Left(listener), &state).await,
                Err(error) => error,
            },
            BackendAddress::Unix(path) => match bind(path) {
                Ok((listener, _file)) => serve(&Either::Right(listener), &state).await,
                Err(error) => error,
            },
        };
        if !std::mem::replace(&mut is_logged, true) {
            tracing::warn!("metrics.listen: {address}: {ended}; trying again every second");
        }
        sleep(BIND_INTERVAL).await;
    }
}

/// Replaces a socket without a listener; an existing listener or other file stays.
fn bind(path: &Path) -> io::Result<(UnixListener, OwnFile)> {
    let is_left = fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path).is_err();
    if is_left {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let file = OwnFile::new(path.to_owned())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok((listener, file))
}

async fn serve(listener: &Either<TcpListener, UnixListener>, state: &Arc<MetricsServerState>) -> io::Error {
    let room = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return io::ErrorKind::Other.into() };
        let accepted = match listener {
            Either::Left(listener) => listener.accept().await.map(|(stream, peer)| {
                let local = stream.local_addr().ok().map(|local| local.ip().to_canonical());
                (Either::Left(stream), Some(peer.ip()), local)
            }),
            Either::Right(listener) => listener.accept().await.map(|(it, _)| (Either::Right(it), None, None)),
        };
        match accepted {
            Ok((_, Some(peer), _)) if !state.admits(peer) => {
                tracing::debug!(%peer, "connection to metrics.listen rejected");
            }
            Ok((stream, _, local)) => {
                tokio::spawn(serve_client(stream, local, Arc::clone(state), permit));
            }
            Err(error) => return error,
        }
    }
}

/// Serves one request. `local` is the address of the listener; a Unix socket has none, and browsers cannot reach it.
async fn serve_client(
    stream: Either<TcpStream, UnixStream>,
    local: Option<IpAddr>,
    state: Arc<MetricsServerState>,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(request, local, &state).await) }
    });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let _ = timeout(CLIENT_TIMEOUT, connection).await;
}

/// Whether the `Host` is a name that an attacker cannot choose. Otherwise a page could read the response by DNS
/// rebinding. A request without `Host` is not from a browser.
fn is_host_answered(request: &Request<Incoming>, local: IpAddr, state: &AppState) -> bool {
    let settings = &state.config.settings;
    let is_answered = |text: &str| {
        HostName::parse(text).is_some_and(|host| {
            host.is_loopback()
                || host == HostName::Address(local)
                || host == HostName::Name(settings.node_name.to_ascii_lowercase())
                || settings.monitoring.hosts.holds(&host)
                || settings.hosts.holds(&host)
        })
    };
    let headers = request.headers().get_all(HOST).iter();
    headers.map(|host| host.to_str().ok()).all(|host| host.is_some_and(is_answered))
        && request.uri().authority().is_none_or(|authority| is_answered(authority.as_str()))
}

async fn answer(
    request: Request<Incoming>,
    local: Option<IpAddr>,
    state: &MetricsServerState,
) -> Response<Full<Bytes>> {
    let (app, path) = (state.app(), request.uri().path());
    let probe = app.handlers.routes.probes.find(path);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, text) = match probe {
        _ if !local.is_none_or(|local| is_host_answered(&request, local, &app.state)) => {
            (StatusCode::MISDIRECTED_REQUEST, PLAIN, OTHER_HOST.to_owned())
        }
        _ if !reads => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned()),
        Some(probe) => {
            let answer = app.handlers.probe(&app.state, probe).await;
            (answer.status, PLAIN, answer.text)
        }
        None if path == "/metrics" => {
            (StatusCode::OK, PROMETHEUS_TEXT, app.state.metrics.to_prometheus_text())
        }
        None => (StatusCode::NOT_FOUND, PLAIN, "only /metrics and the probes are here\n".to_owned()),
    };
    let length = HeaderValue::from(text.len());
    let is_head = *request.method() == Method::HEAD;
    let mut response = Response::new(Full::from(if is_head { String::new() } else { text }));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, length);
    if !reads {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

const PLAIN: &str = "text/plain;charset=UTF-8";
