//! Settings as the process uses them: each row reads its text into its field once.

mod backend;
mod limits;
mod listen;
mod listener;
mod listener_tables;
mod monitoring;
mod real_ip;
mod security_headers;
mod timeouts;
mod tls;
mod tunnel;

use std::path::PathBuf;
use std::time::Duration;

pub use backend::{BackendAddress, BackendSettings};
pub use limits::LimitSettings;
pub use listen::{ListenAddress, ListenSettings};
pub(super) use listener::SCOPED_CONNECTIONS_PER_ADDRESS;
pub use listener::{ClientAuthPolicy, FIRST, LISTENER_ROWS, ListenerLimits, ListenerSettings};
pub use monitoring::{LogFormat, MonitoringSettings, TraceSettings};
pub use real_ip::RealIp;
pub use security_headers::{AllowedOrigins, BrowserSettings, FramePolicy};
pub use timeouts::TimeoutSettings;
pub use tls::{ClientCertificates, ProtocolVersions, TlsSettings};
pub use tunnel::{TunnelSettings, port_range};

use super::layers::SettingsLayers;
use super::root::RootDirectory;
use super::setting::Setting;
use crate::config::diagnostic::{Diagnosed, Diagnostic};
use crate::net::allowed_hosts::AllowedHosts;

/// A setting of `[table]` and `key`, as opposed to a key of a `[[listener]]` table.
type Row = Setting<Settings>;

/// Every setting, in the order in which `nodegate check` prints them.
pub fn rows() -> impl Iterator<Item = &'static Setting<Settings>> {
    let groups = [
        listen::ROWS,
        tls::ROWS,
        real_ip::ROWS,
        backend::ROWS,
        tunnel::ROWS,
        timeouts::ROWS,
        limits::ROWS,
        security_headers::ROWS,
        monitoring::ROWS,
    ];
    groups.into_iter().flatten()
}

/// The value of every setting.
#[derive(Debug, Default)]
pub struct Settings {
    pub listen: ListenSettings,
    /// that of `[listen]`, until it joins `listeners`
    first: ListenerSettings,
    /// accepted host names
    pub hosts: AllowedHosts,
    /// that of `[listen]` first
    pub listeners: Vec<ListenerSettings>,
    pub tls: TlsSettings,
    pub compression: bool,
    /// whether nodegate compresses the daemons' answers with zstd
    pub compression_api: bool,
    pub real_ip: RealIp,
    pub workers: usize,
    pub backend: BackendSettings,
    pub unprivileged: Option<BackendAddress>,
    pub node_name: String,
    pub cluster_port: u16,
    /// whether other nodes get the client's address in a PROXY header
    pub cluster_proxy_protocol: bool,
    /// the route table that replaces the profile's
    pub routes_file: Option<PathBuf>,
    pub tunnel: TunnelSettings,
    pub user: String,
    pub timeout: TimeoutSettings,
    pub limits: LimitSettings,
    /// interval between two pings of a console
    pub console_ping: Option<Duration>,
    /// interval between two checks whether the clients of consoles and tunnels are still admitted
    pub console_recheck: Option<Duration>,
    /// further origins whose pages may open consoles; empty: a console's own ticket is enough
    pub console_origins: AllowedOrigins,
    pub browser: BrowserSettings,
    pub monitoring: MonitoringSettings,
    pub tracing: TraceSettings,
    pub access_log: Option<PathBuf>,
    pub log_format: LogFormat,
    /// bytes of a request target in a log line
    pub log_target: usize,
}

impl Settings {
    /// Reads every setting and reports every mistake. An invalid value leaves the default.
    pub fn resolve(layers: &SettingsLayers, root: &RootDirectory) -> Diagnosed<Self> {
        let (mut settings, mut problems) = (Self::default(), Vec::new());
        for row in rows() {
            let found = layers.find(row.key);
            let key = row.written(&found.origin);
            problems.extend(row.apply(&mut settings, &found.text, root).into_iter().map(|message| {
                if row.is_lenient {
                    let message = format!("{message}; using {}", row.default);
                    Diagnostic::warning(found.origin.clone(), &key, message)
                } else {
                    Diagnostic::error(found.origin.clone(), &key, message)
                }
            }));
        }
        settings.tls.set_origins(layers);
        let header = settings.timeout.header;
        for timeout in [&mut settings.timeout.first_byte, &mut settings.timeout.handshake] {
            *timeout = Some(*timeout).filter(|time| !time.is_zero()).unwrap_or(header);
        }
        if settings.node_name.is_empty() {
            settings.node_name = short_host_name();
        }
        problems.extend(settings.read_listeners(layers, root));
        Diagnosed { value: settings, problems }
    }
}

fn short_host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::net::acl::AclPolicy;

    #[test]
    fn names_are_unique_and_defaults_are_valid() {
        let names = rows().flat_map(|row| [Some(row.key), row.deprecated]).flatten();
        let mut seen = HashSet::new();
        assert_eq!(names.filter(|name| !seen.insert(*name)).collect::<Vec<_>>(), [""; 0]);
        let Diagnosed { value: settings, problems } =
            Settings::resolve(&SettingsLayers::default(), &RootDirectory::default());
        assert_eq!(problems, []);
        assert_eq!((settings.listen.port, settings.limits.headers), (8006, 64));
    }

    #[test]
    fn a_value_with_a_mistake_leaves_the_default() {
        let mut layers = SettingsLayers::default();
        let sets = ["acl.policy=drop", "limits.headers=many", "workers=0"];
        layers.command_line(&sets.map(str::to_owned));
        let Diagnosed { value: settings, problems } = Settings::resolve(&layers, &RootDirectory::default());
        assert_eq!((settings.limits.headers, settings.workers), (64, 3));
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let expected = [
            "--set: acl.policy: must be allow or deny, not 'drop'",
            "--set: workers: warning: must be a whole number from 1 to 127, not '0'; using 3",
            "--set: limits.headers: must be a whole number from 1 to 100, not 'many'",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_policy_is_read_in_any_case() {
        assert_eq!(["Allow", "DENY"].map(listen::policy), [Ok(AclPolicy::Allow), Ok(AclPolicy::Deny)]);
    }
}
