//! A client of the control socket.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::admin::protocol::{ControlRequest, ControlResponse};

/// Timeout of commands that are answered at once.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than a reload takes.
const RELOAD_TIMEOUT: Duration = Duration::from_mins(3);
const MAX_RESPONSE_BYTES: u64 = 16 << 20;

/// A connection for one command after the other.
pub struct ControlClient(BufReader<UnixStream>);

impl ControlClient {
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
        Ok(Self(BufReader::new(stream)))
    }

    pub fn ask(&mut self, question: ControlRequest) -> io::Result<ControlResponse> {
        let mut text = serde_json::to_vec(&question)?;
        text.push(b'\n');
        let timeout = match question {
            ControlRequest::Reload { .. } => RELOAD_TIMEOUT,
            ControlRequest::Status | ControlRequest::Confirm => CLIENT_TIMEOUT,
        };
        self.0.get_ref().set_read_timeout(Some(timeout))?;
        self.0.get_mut().write_all(&text)?;
        let mut line = Vec::new();
        (&mut self.0).take(MAX_RESPONSE_BYTES).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}
