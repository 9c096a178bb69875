//! The timeouts that the settings give a client.

use std::time::Duration;

use crate::config::settings::Settings;
use crate::limits::min_rate::MinRate;

/// The timeouts of a client. All connections of a configuration share them.
pub struct ClientTimeouts {
    pub(crate) header: Duration,
    pub(crate) idle: Duration,
    pub(crate) write: MinRate,
}

impl ClientTimeouts {
    pub fn new(settings: &Settings) -> Self {
        let write = MinRate { grace: settings.timeout.write, rate: settings.limits.response_min_rate };
        Self { header: settings.timeout.header, idle: settings.timeout.idle, write }
    }
}
