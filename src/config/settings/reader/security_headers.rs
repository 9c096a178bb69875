//! Settings for what answers tell browsers.

use super::SettingsReader;
use crate::config::settings::security_headers::{AllowedOrigins, BrowserSettings, FramePolicy, referrer};

impl SettingsReader<'_> {
    pub(super) fn browser(&mut self) -> BrowserSettings {
        BrowserSettings {
            nosniff: self.truth("headers.nosniff"),
            hsts: Some(self.number("headers.hsts")).filter(|seconds| *seconds > 0),
            frames: self.parsed("headers.frames", FramePolicy::parse).flatten(),
            referrer: self.parsed("headers.referrer", referrer).flatten(),
            policy: self.truth("headers.csp"),
            origins: self.parsed("cors.origins", AllowedOrigins::parse).unwrap_or_default(),
        }
    }
}
