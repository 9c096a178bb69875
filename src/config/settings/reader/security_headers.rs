//! Settings for what answers tell browsers.

use super::Reader;
use crate::config::settings::security_headers::{BrowserSettings, Frames, Origins, referrer};

impl Reader<'_> {
    pub(super) fn browser(&mut self) -> BrowserSettings {
        BrowserSettings {
            nosniff: self.truth("headers.nosniff"),
            hsts: Some(self.number("headers.hsts")).filter(|seconds| *seconds > 0),
            frames: self.parsed("headers.frames", Frames::parse).flatten(),
            referrer: self.parsed("headers.referrer", referrer).flatten(),
            policy: self.truth("headers.csp"),
            origins: self.parsed("cors.origins", Origins::parse).unwrap_or_default(),
        }
    }
}
