//! What nobody may have too much of: failed logins, connections, requests at once, uploads. Counted for the whole
//! process, so that it outlives a reload of the settings.

pub mod failures;
pub mod logins;

use http::StatusCode;

use logins::Logins;

/// All that is counted.
#[derive(Default)]
pub struct Counts {
    pub logins: Logins,
}

/// Which limit a client, or all clients together, are over.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Excess {
    #[error("too many failed logins from this address; try again in {seconds} s")]
    Failures { seconds: u64 },
    #[error("too many logins from this address at once")]
    LoginsOfAddress,
    #[error("too many refused logins are waiting for their answers")]
    Waiting,
}

impl Excess {
    /// Whose fault it is: of this client, or of the crowd.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Failures { .. } | Self::LoginsOfAddress => StatusCode::TOO_MANY_REQUESTS,
            Self::Waiting => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Seconds after which another try makes sense.
    pub fn retry_after(self) -> u64 {
        match self {
            Self::Failures { seconds } => seconds,
            Self::LoginsOfAddress | Self::Waiting => 5,
        }
    }
}
