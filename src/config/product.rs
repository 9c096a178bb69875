//! The `[product]` part of a profile: everything that differs between products and is not a setting.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

pub use super::compare::CompareRules;
pub use super::doctor::DoctorRules;
pub use super::dump::DumpRules;
use super::page::{PageRules, VariableRules};
pub use crate::config::auth::{AuthRules, TicketKind};
pub use crate::config::grammar::{ApiRules, UpgradeProtocol};
pub use crate::config::route_scope::{RouteScope, ScopeLogin};

/// The product of a profile. Paths are absolute, without `--root`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// names the site file `/etc/nodegate/NAME.toml`
    pub name: String,
    /// the daemon that nodegate replaces: log names, `argv[0]`
    pub daemon: String,
    pub protocol: Protocol,
    /// shell assignments, read without a shell
    pub legacy_file: Option<PathBuf>,
    /// written only on the product's own port
    pub pid_file: Option<PathBuf>,
    /// the table of API methods, a file beside the profile
    pub routes: Option<PathBuf>,
    /// patterns of GET calls that change something or are expensive: `nodegate compare` skips them
    #[serde(default)]
    pub side_effects: Vec<String>,
    #[serde(default)]
    pub compare: CompareRules,
    /// `GET PATTERN` of calls that GUIs repeat: with `backend.coalesce`, equal calls at the same time are sent once
    #[serde(default)]
    pub coalesce: Vec<String>,
    /// value of the `Server` header
    pub server: String,
    #[serde(default)]
    pub certificate: Vec<CertificatePaths>,
    pub nodes: Option<NodeListRules>,
    #[serde(default)]
    pub backend: BackendRules,
    pub api: Option<ApiRules>,
    /// query parameters whose values the log masks, besides those that hold tickets
    #[serde(default)]
    pub secret_parameters: Vec<String>,
    pub page_title: Option<PageTitle>,
    pub auth: Option<AuthRules>,
    pub upload: Option<UploadRules>,
    pub connect: Option<ConnectRules>,
    pub console: Option<ConsoleAnswerRules>,
    /// the Content-Security-Policy of pages, used if `headers.csp` is on
    pub page_policy: Option<String>,
    #[serde(default)]
    pub page: Vec<PageRules>,
    /// the package with a worker that renders the product's pages by itself, for messages
    pub worker_package: Option<String>,
    /// for `nodegate profile-diff`
    pub dump: Option<DumpRules>,
    /// facts and commands for `nodegate doctor`
    #[serde(default)]
    pub doctor: DoctorRules,
    /// of the pages' templates
    #[serde(default)]
    pub variable: BTreeMap<String, VariableRules>,
    #[serde(default)]
    pub directory: Vec<DirectoryRules>,
    #[serde(default)]
    pub file: Vec<SingleFile>,
    /// query parameters of a file's URL that name its version: such an answer never changes, so browsers keep it
    #[serde(default)]
    pub version_parameters: Vec<String>,
    /// the parts of the product that a listener may be restricted to
    #[serde(default)]
    pub route_scope: BTreeMap<String, RouteScope>,
}

impl Product {
    /// The query parameters whose values the log masks. Those that hold tickets are included, listed or not.
    pub fn masked_parameters(&self) -> Vec<String> {
        let links = self.auth.iter().flat_map(|auth| &auth.ticket).filter_map(|kind| kind.link.clone());
        let consoles = self.console.iter().flat_map(|console| &console.ticket);
        let tickets = links.chain(consoles.map(|ticket| ticket.parameter.clone()));
        self.secret_parameters.iter().cloned().chain(tickets).collect()
    }
}

/// The protocol of the listening port.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 over TLS, plain requests redirected
    Https,
    /// plain `CONNECT` with a ticket as target
    Connect,
}

/// A certificate with its key; the first pair that exists and matches is served.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CertificatePaths {
    pub file: PathBuf,
    /// the same file when absent
    pub key: Option<PathBuf>,
    /// the setting `tls.key_file` replaces `key`
    #[serde(default)]
    pub key_setting: bool,
}

/// The file that lists the other nodes.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct NodeListRules {
    pub file: PathBuf,
    pub format: NodesFormat,
    /// the paths of a node's certificate, with `{node}` for its name; the first that exists is pinned. A section
    /// file has fingerprints instead
    #[serde(default)]
    pub certificates: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum NodesFormat {
    /// JSON with `nodename` and `nodelist`
    Members,
    /// sections `master: CID`, `node: CID` with `name` and `ip` lines
    Sections,
}

/// How nodegate talks to the daemons of this machine: the headers that only nodegate may set towards a daemon, or read
/// from one, and the files with the daemons' worker counts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct BackendRules {
    /// true client address
    pub client_header: Option<String>,
    /// tells the daemon to answer the call itself instead of forwarding it
    pub loop_header: Option<String>,
    /// names a local file to stream; nodegate never passes it on
    pub stream_header: Option<String>,
    /// directories below which a file named by `stream_header` may lie
    pub stream_paths: Vec<PathBuf>,
    /// cut off the front of `Location`
    pub location_prefix: Option<String>,
    /// of the daemon: the default of `backend.workers`
    pub workers: Option<WorkerCountFile>,
    /// of the daemon without root: the default of `backend.unprivileged_workers`
    pub unprivileged_workers: Option<WorkerCountFile>,
    /// path parameters that decide how long a call takes, such as a storage
    pub cost_parameters: Vec<String>,
}

/// A file of shell assignments, and the name under which it has a daemon's worker count.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct WorkerCountFile {
    pub file: PathBuf,
    pub name: String,
}

/// The titles of HTML answers of the API, which the privileged daemon names differently from the original's proxy.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PageTitle {
    /// the format of such answers
    pub format: String,
    pub text: String,
    /// the `class` of the element that repeats the title
    pub class: String,
}

/// Uploads (`handler/upload/`), for the routes with that flag.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct UploadRules {
    /// where a file waits for the daemon; 32 hexadecimal digits follow
    pub spool: String,
    /// the part of the form with the file; the daemon gets its file name under this name
    pub file: String,
    /// the field that names the spool file to the daemon; refused from every client
    pub spool_field: String,
    /// the call that returns permissions, with `path=` in its query
    pub permissions: String,
    /// the path that needs the permission; `{name}` stands for a parameter of the route
    pub permission_path: String,
    pub privilege: String,
    /// members of the daemon's answer: if it accepted the file, one of them is a text; empty: the status is enough
    #[serde(default)]
    pub shows: Vec<String>,
    /// formats in which nodegate can read the answer; empty: all. An upload in another format is refused
    #[serde(default)]
    pub formats: Vec<String>,
    /// bytes that stay free on the file system of the spool
    #[serde(default = "UploadRules::default_reserve")]
    pub reserve: u64,
    /// limit of bytes of one upload
    pub limit: Option<u64>,
    /// seconds that a client may send nothing
    #[serde(default = "UploadRules::default_idle_timeout")]
    pub idle_timeout: u64,
}

impl UploadRules {
    fn default_reserve() -> u64 {
        256 << 20
    }

    fn default_idle_timeout() -> u64 {
        60
    }
}

/// `CONNECT` with a signed ticket as target (crate `nodegate-spice`).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ConnectRules {
    pub prefix: String,
    pub secret: PathBuf,
    pub max_age: i64,
    pub max_future: i64,
    /// API answers that name the proxy, if the profile serves the API too
    pub answers: Option<ProxyAnswers>,
}

/// Answers that name the proxy for viewers.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ProxyAnswers {
    /// `METHOD PATTERN`
    pub calls: Vec<String>,
    /// the member with the proxy's URL
    pub field: String,
}

/// The targets that the daemon may name for a console (`handler/console/`).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ConsoleAnswerRules {
    pub upgrade: UpgradeProtocol,
    /// `FIRST-LAST` on the loopback address
    pub ports: String,
    /// directories of unix sockets
    #[serde(default)]
    pub sockets: Vec<PathBuf>,
    /// those that consoles speak; a client that offers none of them gets none
    #[serde(default = "console_subprotocols")]
    pub subprotocols: Vec<String>,
    #[serde(default)]
    pub ticket: Vec<ConsoleTicket>,
}

/// The name under which consoles pass bytes in binary frames.
fn console_subprotocols() -> Vec<String> {
    vec!["binary".to_owned()]
}

/// Calls for a console with their own ticket, which the daemon verifies.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ConsoleTicket {
    /// the query parameter with the ticket
    pub parameter: String,
    /// `GET PATTERN`
    pub calls: Vec<String>,
}

/// Everything below `url` is a file below `path`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DirectoryRules {
    /// begins and ends with `/`
    pub url: String,
    pub path: PathBuf,
    /// directories that symbolic links in `path` may lead into
    #[serde(default)]
    pub links: Vec<PathBuf>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SingleFile {
    pub url: String,
    pub path: PathBuf,
}
