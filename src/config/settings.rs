//! Settings as the engine uses them: parsed once, so that afterwards no text is looked at again.

mod listen;
mod reader;
mod security_headers;
mod tunnel;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

pub use crate::config::settings::security_headers::{AllowedOrigins, BrowserSettings, FramePolicy};
pub use listen::{ClientAuthPolicy, FIRST, ListenAddress, ListenSettings, ListenerLimits, ListenerSettings};
pub use reader::port_range;
pub use tunnel::TunnelSettings;

use super::root::RootDirectory;
use crate::config::diagnostic::ValueOrigin;
use crate::net::acl::{AccessList, AddressList};
use crate::net::allowed_hosts::AllowedHosts;

/// Every setting, in the order of `keys::KEYS`.
#[derive(Debug)]
pub struct Settings {
    pub listen: ListenSettings,
    /// Host names that are answered
    pub hosts: AllowedHosts,
    pub acl: AccessList,
    /// that of `[listen]` first
    pub listeners: Vec<ListenerSettings>,
    pub tls: TlsSettings,
    pub compression: bool,
    /// daemons' answers are packed here, for who takes zstd
    pub compression_api: bool,
    pub real_ip: RealIp,
    pub workers: usize,
    pub backend: BackendSettings,
    pub unprivileged: Option<BackendAddress>,
    pub node_name: String,
    pub cluster_port: u16,
    /// whether other nodes are told the client's address in a PROXY header
    pub cluster_proxy_protocol: bool,
    pub tunnel: TunnelSettings,
    pub user: String,
    pub timeout: TimeoutSettings,
    pub limits: LimitSettings,
    /// seconds between two pings of a console; `None` sends none
    pub console_ping: Option<Duration>,
    /// seconds between two checks whether the clients of consoles and tunnels are still admitted; `None` checks never
    pub console_recheck: Option<Duration>,
    /// further origins whose pages may open consoles; empty: a console's own ticket is enough
    pub console_origins: AllowedOrigins,
    pub browser: BrowserSettings,
    pub monitoring: MonitoringSettings,
    pub tracing: TraceSettings,
    pub access_log: Option<PathBuf>,
    pub log_format: LogFormat,
    /// bytes of a request target in a line
    pub log_target: usize,
}

#[derive(Clone, Debug)]
pub struct TlsSettings {
    pub ciphers: String,
    pub ciphersuites: String,
    pub honor_cipher_order: bool,
    pub disable_tls_1_2: bool,
    pub disable_tls_1_3: bool,
    pub dhparams: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// beside the profile's own: each with its chain, the key in it or beside it
    pub additional_certificates: Vec<PathBuf>,
    pub clients: ClientAuthPolicy,
    pub offers: HttpVersions,
    /// for problems that only OpenSSL can find: where each of these settings came from
    pub origins: TlsOrigins,
}

#[derive(Clone, Debug)]
pub struct TlsOrigins {
    pub ciphers: ValueOrigin,
    pub ciphersuites: ValueOrigin,
    pub dhparams: ValueOrigin,
    pub key_file: ValueOrigin,
    pub additional_certificates: ValueOrigin,
}

/// The versions of HTTP that clients may choose from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HttpVersions {
    Http1,
    Http2AsWell,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientCertificates {
    Off,
    /// who has none is served as well
    Optional,
    Required,
}

impl ClientCertificates {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            _ => Err(format!("must be off, optional or required, not '{text}'")),
        }
    }
}

/// Who names the real client, how, and what that counts for.
#[derive(Debug)]
pub struct RealIp {
    /// `None`: no header does
    pub header: Option<HeaderName>,
    /// who is believed; without a list every peer is, as the manual says, but for the log alone
    pub proxies: Option<AddressList>,
    /// whether access lists judge the real client as well
    pub apply_acl: bool,
}

impl RealIp {
    /// Whether a peer is one of the proxies that are listed.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.as_ref().is_some_and(|proxies| proxies.contains(address))
    }
}

#[derive(Clone, Debug)]
pub struct BackendSettings {
    pub address: BackendAddress,
    pub keepalive: bool,
    /// the same call, asked several times at once, is made once
    pub coalesce: bool,
}

/// Where a daemon listens, or nodegate for monitors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BackendAddress {
    /// `host:port`
    Tcp(String),
    /// `unix:/path`
    Unix(PathBuf),
}

impl BackendAddress {
    fn parse(text: &str, root: &RootDirectory) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(Self::Unix(root.path(path)))
            } else {
                Err(format!("'{text}': write unix:/absolute/path"))
            };
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(Self::Tcp(text.to_owned()))
            }
            _ => Err(format!("'{text}': write ADDRESS:PORT, [IPv6]:PORT or unix:/path")),
        }
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Who may look at what the process does, and where.
#[derive(Debug)]
pub struct MonitoringSettings {
    /// where metrics are; `None`: nowhere
    pub listen: Option<BackendAddress>,
    /// who may ask there
    pub allow_from: AddressList,
    /// names that it is asked by, beside loopback and its own address
    pub hosts: AllowedHosts,
    /// paths of the probes; empty: none
    pub health: String,
    pub ready: String,
}

/// What leads from a request to what others log of it.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// the header that tells the daemon and the client the number of a request
    pub number: Option<HeaderName>,
    /// whether the client's `traceparent` goes to the daemon
    pub traceparent: bool,
}

/// What a line of the access log looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// as the originals write it
    Text,
    Json,
}

impl LogFormat {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("must be text or json, not '{text}'")),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct TimeoutSettings {
    pub connect: Duration,
    /// of a call that needs root, or that another node answers
    pub answer: Duration,
    /// of a call that needs no root, whichever daemon of this machine answers it
    pub answer_unprivileged: Duration,
    pub first_byte: Duration,
    pub handshake: Duration,
    pub header: Duration,
    /// for a body, before its rate counts
    pub body: Duration,
    /// for the whole body of a call without login
    pub login_body: Duration,
    /// for a client that takes no byte of its answer
    pub write: Duration,
    pub idle: Duration,
    /// for a tunnel in which no byte moves; `None` keeps it
    pub tunnel: Option<Duration>,
    pub stop: Duration,
    pub drain: Duration,
}

/// How much is too much. 0 is no limit where a limit can be off.
#[derive(Clone, Copy, Debug)]
pub struct LimitSettings {
    /// bytes
    pub body: usize,
    /// bytes of a call without login
    pub login_body: usize,
    /// bytes of all bodies that are held at the same time
    pub buffered: usize,
    /// bytes a second that a body must have
    pub request_body_min_rate: u64,
    /// bytes a second that a client must take
    pub response_min_rate: u64,
    /// bytes of path and query
    pub uri_bytes: usize,
    /// bytes
    pub header: usize,
    /// lines
    pub headers: usize,
    /// 0: as many as there are descriptors for
    pub connections: usize,
    pub connections_per_address: usize,
    /// in flight
    pub requests_per_address: usize,
    /// at the same time
    pub uploads: usize,
    /// bytes of all running uploads
    pub upload_bytes_total: u64,
    /// of an address within a minute
    pub login_failures: usize,
}

impl LimitSettings {
    /// Bytes for all bodies together. A body of the largest size has to fit into the part of one client.
    pub fn body_budget(&self) -> usize {
        self.buffered.max(self.body.saturating_mul(4)).max(self.login_body.saturating_mul(16))
    }
}
