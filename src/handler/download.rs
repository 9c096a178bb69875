//! A file or a pipe that the privileged daemon names instead of sending its contents.
//!
//! An answer must not be able to name any file (CVE-2022-35508, CVE-2024-21545). nodegate accepts a name only from the
//! privileged daemon, only for flagged methods of the route table, and only below the profile's directories. It follows
//! no symbolic link.

use std::ffi::OsStr;
use std::fs::File;
use std::future::Future as _;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{Method, StatusCode, response};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, Sleep, sleep};

use super::api::DownloadSource;
use super::static_file::stream::FileBody;
use crate::http::body::{self, PieceStream, ResponseBody};
use crate::http::error::ResponseError;
use crate::os::log_limit::{self, LogTopic};
use crate::state::shared::AppState;

/// Bytes of one read from a pipe.
const PIPE_READ_BYTES: usize = 128 << 10;

/// The reason why a named file is not sent.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("not for {0} {1}")]
    Method(Method, String),
    #[error("only the privileged daemon may")]
    Unprivileged,
    #[error("several files are named")]
    Several,
    #[error("it is not below the profile's stream_paths")]
    Directory,
    #[error("it is neither a file nor a pipe")]
    Type,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The contents of the file that an answer names. `None` if the answer names no file.
pub(super) fn open_named_file(
    state: &AppState,
    source: DownloadSource<'_>,
    head: &mut response::Parts,
) -> Result<Option<ResponseBody>, ResponseError> {
    let Some(name) = &state.header_names.stream else { return Ok(None) };
    let mut named = head.headers.get_all(name).iter();
    let (Some(first), more) = (named.next(), named.next()) else { return Ok(None) };
    if head.status != StatusCode::OK {
        return Ok(None);
    }
    let path = PathBuf::from(OsStr::from_bytes(first.as_bytes()));
    let opened = match more {
        Some(_) => Err(StreamError::Several),
        None => check_source(source).and_then(|()| match source.method {
            &Method::HEAD => Ok(body::empty()),
            _ => open_stream(state, &path),
        }),
    };
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(CONTENT_ENCODING);
    opened.map(Some).map_err(|error| {
        let message = format_args!("streaming of {} denied: {error}", path.display());
        log_limit::error(LogTopic::Fault, "stream", &message);
        ResponseError::StreamDenied
    })
}

fn check_source(source: DownloadSource<'_>) -> Result<(), StreamError> {
    if !source.sends_files {
        return Err(StreamError::Method(source.method.clone(), source.path.joined().into_owned()));
    }
    if source.privileged { Ok(()) } else { Err(StreamError::Unprivileged) }
}

fn open_stream(state: &AppState, path: &Path) -> Result<ResponseBody, StreamError> {
    let file = open_beneath(state, path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok(ResponseBody::streamed(FileBody::new(Arc::new(file), 0..metadata.len())));
    }
    if !metadata.file_type().is_fifo() {
        return Err(StreamError::Type);
    }
    // The original proxy reads such a pipe itself, so its timeout is that of calls without root.
    let timeout = state.config.settings.timeout.answer_unprivileged;
    let pipe = Receiver::from_file(file)?;
    let deadline = Box::pin(sleep(timeout));
    Ok(ResponseBody::streamed(PipeBody { pipe, buffer: BytesMut::new(), timeout, deadline }))
}

/// Opens a file below one of the profile's directories, without following links. If the kernel lacks `openat2`, nothing
/// is opened.
fn open_beneath(state: &AppState, path: &Path) -> Result<File, StreamError> {
    let allowed = &state.config.product.backend.stream_paths;
    let found = allowed.iter().find_map(|base| Some((base, path.strip_prefix(base).ok()?)));
    let (base, relative) = found.ok_or(StreamError::Directory)?;
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || relative.as_os_str().is_empty() {
        return Err(StreamError::Directory);
    }
    let path_only = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let base = open(&state.config.root.path(base), path_only, Mode::empty()).map_err(io::Error::from)?;
    // Without O_NONBLOCK, opening a pipe would wait for a writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let inside =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let file = openat2(&base, relative, OpenHow::new().flags(flags).resolve(inside));
    Ok(File::from(file.map_err(io::Error::from)?))
}

/// The bytes of a pipe. A read before the first writer would return the end of file, but the reactor reports no
/// readiness until then. A pause longer than `timeout` is an error.
struct PipeBody {
    pipe: Receiver,
    buffer: BytesMut,
    timeout: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl PieceStream for PipeBody {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Self { pipe, buffer, timeout, deadline } = self;
        buffer.resize(PIPE_READ_BYTES, 0);
        let mut unfilled = ReadBuf::new(buffer);
        if Pin::new(pipe).poll_read(context, &mut unfilled)?.is_pending() {
            ready!(deadline.as_mut().poll(context));
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        let length = unfilled.filled().len();
        if length == 0 {
            return Poll::Ready(None);
        }
        deadline.as_mut().reset(Instant::now() + *timeout);
        Poll::Ready(Some(Ok(buffer.split_to(length).freeze())))
    }
}
