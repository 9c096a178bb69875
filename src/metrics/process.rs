//! State of the process that only the main thread knows.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::report::{RouteTableReport, ServedCertificate, seconds_since_1970};

/// State that only the main thread has.
#[derive(Debug)]
pub struct ProcessInfo {
    /// seconds since 1970, by the clock of that time
    started: u64,
    inputs: Mutex<ReportInputs>,
}

#[derive(Clone, Debug, Default)]
pub struct ReportInputs {
    pub profile: String,
    /// the name of this node
    pub node: String,
    pub listening: Vec<String>,
    /// the profile's own first
    pub certificates: Vec<ServedCertificate>,
    /// problems with certificates and keys
    pub certificate_problems: Vec<String>,
    /// why renewed certificates are not served
    pub renewal_problems: Vec<String>,
    pub last_reload: Option<LastReload>,
    /// settings that a reload put in effect, that were reverted, and that the files still have; with their origins
    pub reverted: Vec<String>,
    /// problems of the configuration that do not prevent serving
    pub problems: Vec<String>,
    pub routes: Option<RouteTableReport>,
}

/// The last reload and its result.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LastReload {
    /// seconds since 1970
    pub at: u64,
    /// why it was not put in effect; empty if it was
    pub problems: Vec<String>,
    /// seconds since 1970; until then it waits for its confirmation
    pub unconfirmed_until: Option<u64>,
}

impl Default for ProcessInfo {
    fn default() -> Self {
        Self { started: seconds_since_1970(), inputs: Mutex::default() }
    }
}

impl ProcessInfo {
    /// The start in seconds since 1970.
    pub(super) fn started(&self) -> u64 {
        self.started
    }

    pub fn change(&self, change: impl FnOnce(&mut ReportInputs)) {
        change(&mut self.lock());
    }

    pub fn known(&self) -> ReportInputs {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, ReportInputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
