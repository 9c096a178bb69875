//! Limits of failed logins, connections, concurrent requests and uploads. The counts belong to the process, so a
//! reload of the settings keeps them.

pub mod buffer_budget;
pub mod call_rate;
pub mod compression_slots;
pub mod concurrency;
pub mod failure_table;
pub mod handshake_budget;
pub mod login_throttle;
pub mod memory_estimate;
pub mod min_rate;
pub mod recent_failures;
pub mod shares;
pub mod unauthenticated;

use std::sync::Arc;

use http::StatusCode;

use crate::limits::buffer_budget::BufferLedger;
use crate::limits::call_rate::{CallRates, RateExceeded};
use crate::limits::compression_slots::CompressionSlots;
use crate::limits::concurrency::ConnectionCounts;
use crate::limits::login_throttle::LoginThrottle;
use crate::limits::unauthenticated::UnauthenticatedConnections;
use crate::metrics::labels::LimitLabel;

/// The counts of the process.
#[derive(Default)]
pub struct Limiters {
    pub logins: Arc<LoginThrottle>,
    pub connections: Arc<ConnectionCounts>,
    /// requests in flight, where they are counted by address
    pub requests: Arc<ConnectionCounts>,
    pub unauthenticated: Arc<UnauthenticatedConnections>,
    /// buffered bodies
    pub buffered: Arc<BufferLedger>,
    /// calls whose rate is limited
    pub calls: CallRates,
    /// streamed answers that nodegate compresses
    pub compressed: CompressionSlots,
}

/// The limit that a client, or all clients together, exceeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LimitExceeded {
    #[error("too many failed logins from this address; try again in {seconds} s")]
    Failures { seconds: u64 },
    #[error("too many logins from this address at once")]
    LoginsOfAddress,
    #[error("earlier logins from this address took too long; try again in 5 s")]
    LoginQueueTimeout,
    #[error("too many refused logins are waiting for their answers")]
    Waiting,
    #[error("all connections are in use; try again later")]
    Connections,
    #[error("too many connections from this address: {limit} are open already")]
    ConnectionsOfAddress { limit: usize },
    #[error("too many requests from this address: {limit} are being answered already")]
    RequestsOfAddress { limit: usize },
    #[error(transparent)]
    Calls(RateExceeded),
    #[error("too many request bodies are being read; try again later")]
    Buffered,
    #[error("{limit} uploads are running already")]
    Uploads { limit: u64 },
    #[error("the running uploads hold all of the {limit} bytes that uploads may hold")]
    Spool { limit: u64 },
}

/// The response to a request over a limit.
struct LimitResponse {
    status: StatusCode,
    label: LimitLabel,
    /// whether nodegate closes the connection after it
    ends_connection: bool,
    /// seconds
    retry_after: u64,
}

impl LimitExceeded {
    /// The status says whether this client (429) or the sum of all clients (503) exceeded the limit. The connection
    /// closes if it is over a limit itself, and after a login that was rejected at once, because the client could try
    /// again without a pause. A request that waited in vain has paused already.
    fn response(self) -> LimitResponse {
        let (client, all) = (StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE);
        let (status, label, ends_connection, retry_after) = match self {
            Self::Failures { seconds } => (client, LimitLabel::LoginFailures, true, seconds),
            Self::LoginsOfAddress => (client, LimitLabel::LoginsAtOnce, true, 5),
            Self::LoginQueueTimeout => (client, LimitLabel::LoginsAtOnce, false, 5),
            Self::Waiting => (all, LimitLabel::LoginsWaiting, true, 5),
            Self::Connections => (all, LimitLabel::Connections, true, 5),
            Self::ConnectionsOfAddress { .. } => (client, LimitLabel::ConnectionsOfAddress, true, 5),
            Self::RequestsOfAddress { .. } => (client, LimitLabel::RequestsOfAddress, false, 5),
            Self::Calls(exceeded) => (client, LimitLabel::Calls, false, exceeded.seconds),
            Self::Buffered => (all, LimitLabel::Buffered, false, 5),
            Self::Uploads { .. } => (all, LimitLabel::Uploads, false, 30),
            Self::Spool { .. } => (all, LimitLabel::Spool, false, 30),
        };
        LimitResponse { status, label, ends_connection, retry_after }
    }

    pub fn status(self) -> StatusCode {
        self.response().status
    }

    /// The metric label of the limit.
    pub fn limit(self) -> LimitLabel {
        self.response().label
    }

    pub fn ends_connection(self) -> bool {
        self.response().ends_connection
    }

    /// Seconds after which another attempt makes sense.
    pub fn retry_after(self) -> u64 {
        self.response().retry_after
    }
}
