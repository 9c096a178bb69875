//! The `[product]` part of a profile: everything that differs between products and is no setting.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

pub use super::compare::CompareRules;
use super::page::{PageRules, VariableRules};
pub use crate::config::auth::{AuthRules, LifetimeSource, LoginCall, TicketKind};
pub use crate::config::grammar::{ApiRules, SignatureScheme, UpgradeProtocol};
pub use crate::config::route_scope::{CallLimit, RouteScope, ScopeLogin};

/// What a profile says of its product. Paths are absolute and still without `--root`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// names the site file `/etc/nodegate/NAME.toml`
    pub name: String,
    /// the daemon whose place is taken: log names, `argv[0]`
    pub daemon: String,
    pub protocol: Protocol,
    /// shell assignments, read without a shell
    pub legacy_file: Option<PathBuf>,
    /// written only on the product's own port
    pub pid_file: Option<PathBuf>,
    /// the table of API methods, a file beside the profile
    pub routes: Option<PathBuf>,
    /// `METHOD PATTERN` of GET calls that change something, or cost much: `nodegate compare` leaves them out
    #[serde(default)]
    pub side_effects: Vec<String>,
    #[serde(default)]
    pub compare: CompareRules,
    /// `GET PATTERN` of calls that GUIs repeat: asked several times at once, one is made where `backend.coalesce` is on
    #[serde(default)]
    pub coalesce: Vec<String>,
    /// value of the `Server` header
    pub server: String,
    #[serde(default)]
    pub certificate: Vec<CertificatePaths>,
    pub nodes: Option<NodeListRules>,
    #[serde(default)]
    pub backend: BackendHeaders,
    pub api: Option<ApiRules>,
    /// query parameters whose values the log masks, beside those that bring tickets
    #[serde(default)]
    pub secret_parameters: Vec<String>,
    pub page_title: Option<PageTitle>,
    pub gate: Option<AuthRules>,
    pub upload: Option<UploadRules>,
    pub connect: Option<ConnectRules>,
    pub console: Option<ConsoleAnswerRules>,
    /// the Content-Security-Policy of pages, where `headers.csp` switches it on
    pub page_policy: Option<String>,
    #[serde(default)]
    pub page: Vec<PageRules>,
    /// the package with a worker that renders the product's pages by itself, for messages
    pub worker_package: Option<String>,
    /// of the pages' templates
    #[serde(default)]
    pub variable: BTreeMap<String, VariableRules>,
    #[serde(default)]
    pub directory: Vec<DirectoryRules>,
    #[serde(default)]
    pub file: Vec<SingleFile>,
    /// parts of all this that a listener may be restricted to
    #[serde(default)]
    pub class: BTreeMap<String, RouteScope>,
}

impl Product {
    /// The query parameters whose values the log masks. A parameter that brings a ticket is one, listed or not.
    pub fn masked_parameters(&self) -> Vec<String> {
        let links = self.gate.iter().flat_map(|gate| &gate.ticket).filter_map(|kind| kind.link.clone());
        let consoles = self.console.iter().flat_map(|console| &console.ticket);
        let tickets = links.chain(consoles.map(|ticket| ticket.parameter.clone()));
        self.secret_parameters.iter().cloned().chain(tickets).collect()
    }
}

/// What is spoken on the listening port.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 over TLS, plain requests redirected
    Https,
    /// plain `CONNECT` with a ticket as target
    Connect,
}

/// A certificate with its key; the first pair that exists and fits is served.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificatePaths {
    pub file: PathBuf,
    /// the same file when absent
    pub key: Option<PathBuf>,
    /// the setting `tls.key_file` replaces `key`
    #[serde(default)]
    pub key_setting: bool,
}

/// Where the other nodes are written down.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeListRules {
    pub file: PathBuf,
    pub format: NodesFormat,
    /// where a node's certificate lies, with `{node}` for its name; the first that exists is pinned. A list of
    /// sections brings fingerprints itself
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

/// Names of the headers that only nodegate may set towards a daemon, or read from one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendHeaders {
    /// true client address
    pub client_header: Option<String>,
    /// "answer yourself, do not pass on"
    pub loop_header: Option<String>,
    /// names a local file to stream; never leaves nodegate
    pub stream_header: Option<String>,
    /// directories below which a file named by `stream_header` may lie
    #[serde(default)]
    pub stream_paths: Vec<PathBuf>,
    /// cut off the front of `Location`
    pub location_prefix: Option<String>,
}

/// What answers of the API that are pages are called where the privileged daemon stands in for the proxy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageTitle {
    /// the format of such answers
    pub format: String,
    pub text: String,
    /// the value of `class` of the element that repeats the title
    pub class: String,
}

/// Files that clients send (`handler/upload/`), for the routes flagged so.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadRules {
    /// where a file waits for the daemon; 32 hexadecimal digits follow
    pub spool: String,
    /// the form's part with the file; the daemon is told its file name under this name
    pub file: String,
    /// the field that tells the daemon the spool file; refused from every client
    pub spool_field: String,
    /// the call that tells permissions, asked with `path=`
    pub permissions: String,
    /// what permission is needed on; `{name}` stands for the route's parameter
    pub permission_path: String,
    pub privilege: String,
    /// members of the daemon's answer, one of which is a text where it has taken the file; none: the status is enough
    #[serde(default)]
    pub shows: Vec<String>,
    /// in which an answer can be read; none: all. An upload in another format is refused
    #[serde(default)]
    pub formats: Vec<String>,
    /// bytes of the spool's file system that stay free
    #[serde(default = "UploadRules::default_reserve")]
    pub reserve: u64,
    /// bytes of one upload
    pub limit: Option<u64>,
    /// seconds that a client may send nothing
    #[serde(default = "UploadRules::default_patience")]
    pub patience: u64,
}

impl UploadRules {
    fn default_reserve() -> u64 {
        256 << 20
    }

    fn default_patience() -> u64 {
        60
    }
}

/// `CONNECT` with a signed ticket as target (crate `nodegate-spice`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectRules {
    pub prefix: String,
    pub secret: PathBuf,
    pub max_age: i64,
    pub max_future: i64,
    /// of the API, where it is served beside
    pub answers: Option<ProxyAnswers>,
}

/// Answers that name the proxy by which viewers come.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyAnswers {
    /// `METHOD PATTERN`
    pub calls: Vec<String>,
    /// with the proxy's URL
    pub field: String,
}

/// Where the daemon may say that a console is (`handler/websocket/`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleAnswerRules {
    pub upgrade: UpgradeProtocol,
    /// `FIRST-LAST` on the loopback address
    pub ports: String,
    /// directories of unix sockets
    #[serde(default)]
    pub sockets: Vec<PathBuf>,
    #[serde(default)]
    pub ticket: Vec<ConsoleTicket>,
}

/// Calls for a console that bring a ticket of their own, which the daemon verifies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleTicket {
    /// the query parameter with the ticket
    pub parameter: String,
    /// `GET PATTERN`
    pub calls: Vec<String>,
}

/// Everything below `url` is a file below `path`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryRules {
    pub url: String,
    pub path: PathBuf,
    /// directories that symbolic links in `path` may lead into
    #[serde(default)]
    pub links: Vec<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SingleFile {
    pub url: String,
    pub path: PathBuf,
}
