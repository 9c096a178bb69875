//! How long a client may take.

use std::time::Duration;

use crate::config::settings::Settings;
use crate::limits::min_rate::MinRate;

/// How long a client may keep us waiting; one for all connections of a configuration.
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
