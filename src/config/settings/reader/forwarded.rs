//! Settings for who is behind a proxy.

use std::str::FromStr as _;

use http::HeaderName;

use super::SettingsReader;
use crate::config::diagnostic::Diagnostic;
use crate::config::keys;
use crate::config::settings::RealIp;

const UNLISTED: &str = "every client can write any address into the access log, and nothing else goes by it: \
    list the proxies in PROXY_REAL_IP_ALLOW_FROM (real_ip.allow_from)";

impl SettingsReader<'_> {
    pub(super) fn real_ip(&mut self) -> RealIp {
        let header = self.optional("real_ip.header", |text, _| {
            HeaderName::from_str(text).map_err(|_| format!("'{text}' is no header name"))
        });
        let list = self.addresses("real_ip.allow_from");
        let is_listed = !self.text("real_ip.allow_from").text.trim().is_empty();
        let apply_acl = self.truth("real_ip.apply_acl");
        if !is_listed {
            if header.is_some() {
                self.warning("real_ip.header", UNLISTED);
            }
            if apply_acl {
                self.needs_proxies("real_ip.apply_acl");
            }
            if self.truth("listen.proxy_protocol") {
                self.needs_proxies("listen.proxy_protocol");
            }
        }
        RealIp { header, proxies: is_listed.then_some(list), apply_acl }
    }

    fn needs_proxies(&mut self, key: &str) {
        let origin = self.text(key).origin;
        self.problem(key, &origin, NO_PROXIES);
    }

    fn warning(&mut self, key: &str, message: &str) {
        let origin = self.text(key).origin;
        let key = keys::written(key, &origin);
        self.problems.push(Diagnostic::warning(origin, key, message));
    }
}

pub(super) const NO_PROXIES: &str = "nobody is believed: list the proxies in real_ip.allow_from";
