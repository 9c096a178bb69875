//! Why an upstream sent no response.

use std::io;
use std::time::Duration;

use http::StatusCode;

use crate::metrics::labels::FailurePhase;
use crate::upstream::scheduler::QueueError;

/// Why a request got no response.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// it was not sent
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Failed(#[from] UpstreamError),
}

/// A failed upstream call: the upstream, the phase, the time and the cause.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{cause} ({}, upstream {upstream}, after {:.3} s)", shown(*.phase), elapsed.as_secs_f64())]
pub struct UpstreamError {
    pub phase: FailurePhase,
    /// the address or the node
    pub upstream: String,
    pub elapsed: Duration,
    pub cause: String,
}

impl UpstreamError {
    /// The pseudo status codes that the clients know (595 to 599).
    pub fn status(&self) -> StatusCode {
        let code = match self.phase {
            FailurePhase::Connect => 595,
            FailurePhase::Handshake | FailurePhase::Answer => 596,
            FailurePhase::Body => 597,
            FailurePhase::Parse => 599,
        };
        StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY)
    }
}

fn shown(phase: FailurePhase) -> &'static str {
    match phase {
        FailurePhase::Connect => "connecting",
        FailurePhase::Handshake => "TLS handshake",
        FailurePhase::Answer => "waiting for the answer",
        FailurePhase::Body => "reading the body",
        FailurePhase::Parse => "reading the answer",
    }
}

/// The message of the system, without "(os error N)".
pub fn io_message(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
