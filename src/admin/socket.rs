//! Serves the control socket in tasks of the main thread, so it does not delay requests.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::admin::handle::{ConfirmOutcome, HowToReload, SupervisorHandle};
use crate::admin::protocol::{ControlRequest, ControlResponse, MAX_COMMAND_BYTES, MAX_CONFIRM_SECONDS};
use crate::admin::status_reporter::{FailedLoginNames, StatusReporter};
use crate::config::diagnostic::Diagnostic;
use crate::os::file_version::OwnFile;

/// Limit of concurrent clients.
const MAX_CLIENTS: usize = 8;
/// Timeout for a command to arrive, and for a response to be read.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a reload, which may wait for a successor.
const RELOAD_TIMEOUT: Duration = Duration::from_mins(2);
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(500);

/// The open socket. Dropping it removes the file, unless a successor has replaced it.
pub(crate) struct ControlSocket {
    _file: OwnFile,
    task: JoinHandle<()>,
}

impl ControlSocket {
    /// Opens it at `path` and replaces an existing socket: the process that serves the port owns the path.
    pub(crate) fn open(
        path: &Path,
        handle: SupervisorHandle,
        reporter: Arc<StatusReporter>,
    ) -> io::Result<Self> {
        let (listener, file) = bind(path)?;
        let task = tokio::spawn(serve(listener, handle, reporter));
        Ok(Self { _file: file, task })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Binds under another name and restricts the permissions, then renames the socket to its path.
fn bind(path: &Path) -> io::Result<(UnixListener, OwnFile)> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    let mut file = OwnFile::new(new.clone())?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    file.rename(path)?;
    Ok((listener, file))
}

async fn serve(listener: UnixListener, handle: SupervisorHandle, reporter: Arc<StatusReporter>) {
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(permit) = Arc::clone(&clients).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (handle, reporter) = (handle.clone(), Arc::clone(&reporter));
                tokio::spawn(async move {
                    if let Err(error) = serve_client(stream, &handle, &reporter).await {
                        tracing::debug!(%error, "a client of the control socket disconnected");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the control socket cannot accept connections");
                sleep(DESCRIPTOR_PAUSE).await;
            }
        }
    }
}

/// Serves one command after the other until the client closes.
async fn serve_client(
    stream: UnixStream,
    handle: &SupervisorHandle,
    reporter: &StatusReporter,
) -> io::Result<()> {
    let (source, mut sink) = stream.into_split();
    let mut source = BufReader::new(source);
    loop {
        let mut line = Vec::new();
        let mut reading = (&mut source).take(MAX_COMMAND_BYTES);
        if timeout(CLIENT_TIMEOUT, reading.read_until(b'\n', &mut line)).await?? == 0 {
            return Ok(());
        }
        let request: Result<ControlRequest, _> = serde_json::from_slice(&line);
        let answer = match request {
            Ok(request) => answer(request, handle, reporter).await,
            Err(ref error) => ControlResponse::Malformed(error.to_string()),
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        timeout(CLIENT_TIMEOUT, sink.write_all(&text)).await??;
        if request.is_err() {
            return Ok(()); // the beginning of the next command is not known
        }
    }
}

async fn answer(
    request: ControlRequest,
    handle: &SupervisorHandle,
    reporter: &StatusReporter,
) -> ControlResponse {
    match request {
        ControlRequest::Status => {
            ControlResponse::Status(Box::new(reporter.report(FailedLoginNames::Addresses).await))
        }
        ControlRequest::Confirm => match handle.confirm().await {
            ConfirmOutcome::Kept => ControlResponse::Confirmed(true),
            ConfirmOutcome::NothingWaits => ControlResponse::Confirmed(false),
            ConfirmOutcome::Reverted(origins) => {
                let still =
                    format!("too late: the reload was reverted; the files still hold {}", origins.join(", "));
                ControlResponse::Refused(vec![still])
            }
        },
        ControlRequest::Reload { confirm: Some(seconds), .. }
            if !(1..=MAX_CONFIRM_SECONDS).contains(&seconds) =>
        {
            ControlResponse::Malformed(format!("confirm: must be from 1 to {MAX_CONFIRM_SECONDS}"))
        }
        ControlRequest::Reload { confirm, force } => {
            let how = HowToReload { confirm: confirm.map(Duration::from_secs), force };
            match timeout(RELOAD_TIMEOUT, handle.reload(how)).await {
                Ok(Ok(summary)) => ControlResponse::Reloaded {
                    changed: summary.changed.iter().map(ToString::to_string).collect(),
                    warnings: texts(&summary.warnings),
                    successor: summary.successor,
                },
                Ok(Err(problems)) => ControlResponse::Refused(texts(&problems)),
                Err(_) => ControlResponse::Refused(vec![
                    "the reload takes too long; the log will have its result".to_owned(),
                ]),
            }
        }
    }
}

pub(crate) fn texts(problems: &[Diagnostic]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}
