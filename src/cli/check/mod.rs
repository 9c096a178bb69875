//! `nodegate check PROFILE`: everything that `run` would use, and every problem at once.

pub(in crate::cli) mod log_disk;
mod memory;
mod serving_user;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{complain, port_owner, say};
use crate::auth::authenticator::Authenticator;
use crate::config::diagnostic::{Diagnosed, Diagnostic, ValueOrigin};
use crate::config::layers::ResolvedValue;
use crate::config::loaded_routes::RouteSource;
use crate::config::setting::ValueKind;
use crate::config::settings::{self, LISTENER_ROWS, ListenAddress};
use crate::config::{self, Config, ConfigSources};
use crate::handler::tunnel::TunnelRules;
use crate::http::access_log::AccessLog;
use crate::metrics::report::{ServedCertificate, seconds_since_1970};
use crate::os::{listener, log_file};
use crate::proxy::handlers::App;
use crate::state::cluster_access;
use crate::state::shared::PersistentState;
use crate::tls::TlsAcceptor;
use crate::upstream::nodes::NodeFile;

pub fn run(profile: &str, options: &ConfigSources, json: bool) -> ExitCode {
    let config = match Config::load(profile, options) {
        Ok(config) => config,
        Err(problems) => {
            if json {
                say(&json!({ "settings": {}, "problems": problems }).to_string());
            }
            complain(&problems);
            return ExitCode::FAILURE;
        }
    };
    let checked = examine(config);
    if json {
        say(&checked.report.to_string());
    } else {
        checked.lines.iter().for_each(|line| say(line));
    }
    complain(&checked.errors);
    complain(&checked.warnings);
    if checked.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The outcome of a check.
pub(in crate::cli) struct Checked {
    /// each setting with its origin, then the certificates and the route table of
    /// the setting
    pub(in crate::cli) lines: Vec<String>,
    /// the same and the problems as one JSON object
    pub(in crate::cli) report: Value,
    pub(in crate::cli) errors: Vec<Diagnostic>,
    pub(in crate::cli) warnings: Vec<Diagnostic>,
    pub(in crate::cli) certificates: Vec<ServedCertificate>,
}

/// Loads everything that `run` would use. It may wait for the worker of the pages.
pub(in crate::cli) fn examine(config: Config) -> Checked {
    let mut advice = advice(&config);
    advice.extend(listen_problems(&config));
    let CheckedApp { app, certificates, mut problems } = build(config);
    let config = match &app {
        Ok(app) => &app.state.config,
        Err(config) => config,
    };
    let served: Vec<_> = certificates.iter().map(|certificate| PathBuf::from(&certificate.file)).collect();
    problems.extend(advice);
    problems.extend(certificates.iter().filter_map(|certificate| expiry(certificate, seconds_since_1970())));
    problems.extend(serving_user::problems(config, &served));
    problems.extend(log_file::missing_directory(config));
    problems.extend(log_disk::problems(config));
    config::name_the_profile(config.profile_file.as_deref(), &mut problems);
    let (errors, warnings): (Vec<_>, Vec<_>) = problems.into_iter().partition(Diagnostic::is_error);
    let of_listeners = config.listener_keys.iter().map(|(key, found)| (key.as_str(), found));
    let values = || config.effective.iter().map(|(key, found)| (*key, found)).chain(of_listeners.clone());
    let settings: Map<_, _> =
        values().map(|(key, found)| (key.to_owned(), as_json(kind(key), found))).collect();
    let routes = &config.routes;
    let report = json!({
        "settings": settings, "certificates": certificates, "problems": errors, "warnings": warnings,
        "routes": { "methods": routes.table.methods().len(), "file": routes.source.file() },
    });
    let is_set = matches!(routes.source, RouteSource::Setting(_));
    let table = is_set.then(|| format!("routes: {}", routes.describe(&config.product)));
    let settings = values().map(|(key, found)| format!("{key} = {}  ({})", found.text, found.origin));
    let listed = certificates.iter().filter(|_| certificates.len() > 1);
    let listed = listed
        .map(|certificate| format!("certificate {}: {}", certificate.file, certificate.names.join(", ")));
    Checked { lines: settings.chain(listed).chain(table).collect(), report, errors, warnings, certificates }
}

/// In the warning about a listener whose port belongs to the process beside a trial.
pub(in crate::cli) const LEFT_OUT: &str = "is left out of this trial";

/// Begins the warnings about keys that cannot be read.
pub(in crate::cli) const NO_LOGIN: &str = "no login is possible: ";

/// The key of the warnings about missing directories.
pub(super) const MISSING_DIRECTORY_KEY: &str = "product.directory";

/// The application that `run` would serve with, if it can serve.
struct CheckedApp {
    app: Result<App, Config>,
    certificates: Vec<ServedCertificate>,
    problems: Vec<Diagnostic>,
}

/// Builds all that `run` would build, with an access log that writes nowhere.
fn build(config: Config) -> CheckedApp {
    let log = match AccessLog::start(None) {
        Ok(log) => Arc::new(log),
        Err(error) => {
            let problem =
                Diagnostic::error(ValueOrigin::Profile, "", format!("cannot start a thread: {error}"));
            return CheckedApp { app: Err(config), certificates: Vec::new(), problems: vec![problem] };
        }
    };
    let lasting = PersistentState {
        log,
        metrics: Arc::default(),
        tickets: Arc::default(),
        limiters: Arc::default(),
        credentials: Arc::default(),
        schedulers: Arc::default(),
    };
    let Diagnosed { value: app, mut problems } = App::build(config, &lasting);
    let mut certificates = Vec::new();
    if let Ok(app) = &app {
        let acceptor = app.state.port_protocol.acceptor();
        problems.extend(missing_files(app));
        problems.extend(acceptor.map(TlsAcceptor::list_problems).unwrap_or_default());
        certificates = acceptor.map(TlsAcceptor::certificates).unwrap_or_default();
    }
    CheckedApp { app, certificates, problems }
}

/// Problems that do not prevent a start.
fn missing_files(app: &App) -> Vec<Diagnostic> {
    let state = &app.state;
    let keys = state.authenticator.iter().flat_map(Authenticator::file_errors);
    let secret = app.handlers.tunnels.iter().filter_map(TunnelRules::file_error);
    let mut problems: Vec<_> = keys
        .chain(secret)
        .map(|error| Diagnostic::warning(ValueOrigin::Profile, "product", format!("{NO_LOGIN}{error}")))
        .collect();
    problems.extend(missing_directories(&state.config));
    problems.extend(page_problems(app));
    if let Some(error) = app.handlers.uploads.as_ref().and_then(|uploads| uploads.problem()) {
        let message = format!("no upload is possible: {error}");
        problems.push(Diagnostic::warning(ValueOrigin::Profile, "product.upload.spool", message));
    }
    problems
}

fn missing_directories(config: &Config) -> impl Iterator<Item = Diagnostic> {
    let missing = config.directories().filter(|directory| !config.root.path(&directory.path).is_dir());
    missing.map(|directory| {
        let path = config.root.path(&directory.path);
        let message = format!("{} is served from {}, which is missing", directory.url, path.display());
        match config.routes.source.file() {
            Some(table) if config.routes.table.added.serves(&directory.url) => {
                let origin = ValueOrigin::File { path: table.to_owned(), line: None };
                Diagnostic::warning(origin, "routes.file", message)
            }
            Some(_) | None => Diagnostic::warning(ValueOrigin::Profile, MISSING_DIRECTORY_KEY, message),
        }
    })
}

/// Pages that fail for users. Pages that nodegate cannot render are requested from the worker.
fn page_problems(app: &App) -> Vec<Diagnostic> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(app.handlers.pages.problems_with_worker(&app.state)),
        Err(_) => app.handlers.pages.problems(),
    }
}

/// Whether the addresses to listen on are those of this machine; a port may be in use by the running daemon.
fn listen_problems(config: &Config) -> Vec<Diagnostic> {
    let mut problems = left_out_of_trial(config);
    problems.extend(listener::address_problems(config));
    problems
}

/// The listeners that a trial leaves out: another process has their ports.
fn left_out_of_trial(config: &Config) -> Vec<Diagnostic> {
    if !config.is_beside_another() {
        return Vec::new();
    }
    let ports = port_owner::listening_ports(&config.product.daemon).unwrap_or_default();
    let listeners = config.settings.listeners.iter().enumerate().skip(1);
    let taken = listeners.filter(|(_, listener)| {
        let address = port_owner::literal_address(&listener.listen);
        ports.iter().any(|found| found.overlaps(listener.listen.port, address))
    });
    taken
        .map(|(number, listener)| {
            let (name, port) = (&listener.name, listener.listen.port);
            let message = format!("listener '{name}' {LEFT_OUT}: port {port} is in use");
            config.listener_problem(number, "port", message).into_warning()
        })
        .collect()
}

/// Settings that the manuals warn about, or that cut this node off from others. `run` logs them as well.
pub fn advice(config: &Config) -> Vec<Diagnostic> {
    let mut problems = cluster_access::problems(config);
    problems.extend(memory::problems(config));
    let origin = config.origin("listen.address");
    let mut advise = |message: &str| {
        problems.push(Diagnostic::warning(origin.clone(), "listen.address", message));
    };
    let clustered = NodeFile::new(config.product.nodes.as_ref(), &config.root, &config.settings.node_name)
        .get()
        .is_ok_and(|table| table.clustered);
    let restricted = match &config.settings.listen.address {
        ListenAddress::Any | ListenAddress::AnyV6 => false,
        ListenAddress::Literal { address, .. } => *address != IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ListenAddress::Name(_) => true,
    };
    if clustered && restricted {
        advise(
            "LISTEN_IP is set on a clustered system, which is not recommended: the other nodes need access to \
             this port, possibly from other subnets",
        );
    }
    if config.settings.listen.address == ListenAddress::Any && bind_v6_only() {
        advise(
            "net.ipv6.bindv6only is 1 on this machine; nodegate serves IPv4 and IPv6 clients all the same, \
             but other programs may not",
        );
    }
    let log = config.origin("log.access");
    if config.is_beside_another() && log == ValueOrigin::Profile {
        let own = config.effective.iter().find(|(key, _)| *key == "log.access");
        let other = own.map(|(_, own)| Path::new(&own.text).with_file_name("trial.log")).unwrap_or_default();
        let message = format!(
            "a trial on another port writes into the access log of the running daemon: give the trial another file, \
             such as --set log.access={}",
            other.display()
        );
        problems.push(Diagnostic::warning(log, "log.access", message));
    }
    problems
}

/// `run` logs the same each day.
fn expiry(certificate: &ServedCertificate, now: u64) -> Option<Diagnostic> {
    let problem = Diagnostic::file_error(&certificate.file, certificate.expiry_notice(now)?);
    Some(if certificate.seconds_left(now) < 0 { problem } else { problem.into_warning() })
}

fn bind_v6_only() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").is_ok_and(|text| text.trim() == "1")
}

/// Of `limits.body`, or of `listener[1].port`.
fn kind(key: &str) -> Option<ValueKind> {
    match key.split_once("].") {
        Some((_, key)) => LISTENER_ROWS.iter().find(|row| row.key == key).map(|row| row.kind),
        None => settings::rows().find(|row| row.key == key).map(|row| row.kind),
    }
}

fn as_json(kind: Option<ValueKind>, found: &ResolvedValue) -> Value {
    let text = found.text.as_str();
    let value = match kind {
        Some(ValueKind::Bool) => json!(matches!(text, "1" | "true")),
        Some(ValueKind::Number(..)) => {
            text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number))
        }
        Some(ValueKind::Milliseconds(..)) => {
            text.parse::<f64>().map_or_else(|_| json!(text), |number| json!(number))
        }
        Some(ValueKind::Text | ValueKind::List) | None => json!(text),
    };
    let (file, line) = found.origin.place();
    json!({ "value": value, "layer": found.origin.to_string(), "file": file, "line": line })
}
