//! How long a client may take.

use std::time::Duration;

use crate::config::settings::Settings;
use crate::limits::min_rate::Pace;

/// How long a client may keep us waiting; one for all connections of a configuration.
pub struct Deadlines {
    pub(crate) header: Duration,
    pub(crate) idle: Duration,
    pub(crate) write: Pace,
}

impl Deadlines {
    pub fn new(settings: &Settings) -> Self {
        let write = Pace { grace: settings.timeout.write, rate: settings.limits.answer_rate };
        Self { header: settings.timeout.header, idle: settings.timeout.idle, write }
    }
}
