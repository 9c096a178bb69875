//! `nodegate run PROFILE`: opens everything, drops privileges, and serves until a signal.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use super::{check, complain};
use crate::config::diagnostic::{Diagnosed, Diagnostic, ValueOrigin};
use crate::config::{Config, ConfigSources};
use crate::http::access_log::AccessLog;
use crate::limits::concurrency::ConnectionCapacity;
use crate::os::executable::ExecutableFile;
use crate::os::listener::{ListenerPlan, ListenerSet, UnboundListener};
use crate::os::{log_file, logging, memory, privileges, request_context, rlimit, sandbox, systemd};
use crate::proxy::handlers::App;
use crate::server::{self, ConfigLoader, LoadedConfig, OldProcess, ReceivedHandoff, StartState};
use crate::state::shared::PersistentState;
use crate::tls::session_tickets::TicketKeys;

pub fn run(profile: &str, options: &ConfigSources) -> ExitCode {
    match start(profile, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            // What a service writes to stderr has the priority of a remark there.
            if logging::is_journal() {
                log_all(&problems);
            } else {
                complain(&problems);
            }
            ExitCode::FAILURE
        }
    }
}

fn log_all<'p>(problems: impl IntoIterator<Item = &'p Diagnostic>) {
    for problem in problems {
        if problem.is_error() { tracing::error!("{problem}") } else { tracing::warn!("{problem}") }
    }
}

fn start(profile: &str, options: &ConfigSources) -> Result<(), Vec<Diagnostic>> {
    let binary = ExecutableFile::of_this_process().map_err(|error| system_error(&error))?;
    let mut met = OldProcess::meet().map_err(|error| system_error(&error))?;
    let descriptors = rlimit::raise();
    let mut config = Config::load(profile, options)?;
    let user = privileges::user_to_become(&config)?;
    privileges::hand_over_files(&config, user.as_ref());
    if let Some(writable) = met.as_mut().and_then(|met| met.inheritance.confined_to.take()) {
        sandbox::inherit(writable);
    }
    sandbox::confine(&config, user.is_some());
    config.problems.extend(sandbox::problem(&config));
    config.problems.extend(log_file::problem(&config));
    let mut advice = check::advice(&config);
    advice.extend(too_few_descriptors(&config, descriptors));
    let log = AccessLog::start(config.settings.access_log.clone()).map_err(|error| system_error(&error))?;
    let tickets = met
        .as_mut()
        .map(|met| TicketKeys::from_exported(std::mem::take(&mut met.inheritance.tickets), Instant::now()));
    let (log, tickets) = (Arc::new(log), Arc::new(tickets.unwrap_or_default()));
    let lasting = PersistentState {
        log: Arc::clone(&log),
        metrics: Arc::default(),
        tickets,
        limiters: Arc::default(),
        credentials: Arc::default(),
        schedulers: Arc::default(),
    };
    if let Some(slots) = met.as_mut().and_then(|met| met.worker_slots.take()) {
        lasting.schedulers.share_with_predecessor(slots);
    }
    let LoadedConfig { app, problems } = build(config, &lasting, met.as_ref())?;
    log_all(problems.iter().chain(&advice));
    let (listening, predecessor) = listen(&app.state.config, met)?;
    privileges::become_user(user.as_ref(), &listening.sockets)?;
    request_context::set_node_name(&app.state.config.settings.node_name);
    let settings = &app.state.config.settings;
    log.take_form(settings.log_format, settings.log_target, app.state.config.product.masked_parameters());
    log.reopen(app.state.config.settings.access_log.clone());
    memory::trim_heap();
    let source = ConfigLoader { profile: profile.to_owned(), options: options.clone() };
    let loaded = LoadedConfig { app, problems };
    let served = server::run(StartState { source, binary, loaded, lasting, listening, predecessor });
    log.close();
    served.map_err(|error| system_error(&error))
}

/// The application, if it can serve. A serving process is replaced only by a process that can serve, too.
fn build(
    config: Config,
    lasting: &PersistentState,
    met: Option<&ReceivedHandoff>,
) -> Result<LoadedConfig, Vec<Diagnostic>> {
    let Diagnosed { value: app, problems } = App::build(config, lasting);
    let errors = || problems.iter().filter(|problem| problem.is_error());
    let app = app.map_err(|_| errors().cloned().collect::<Vec<_>>())?;
    let is_new = |problem: &&Diagnostic| met.is_some_and(|met| !met.inheritance.knows(problem));
    let refused: Vec<_> = errors().filter(is_new).cloned().collect();
    if refused.is_empty() { Ok(LoadedConfig::new(app, problems)) } else { Err(refused) }
}

/// The sockets of the predecessor, those that systemd has opened, or our own.
fn listen(
    config: &Config,
    met: Option<ReceivedHandoff>,
) -> Result<(ListenerSet, Option<OldProcess>), Vec<Diagnostic>> {
    let plan = ListenerPlan::new(config);
    let unbound = |unbound: UnboundListener| vec![unbound.problem(config)];
    let all_of = |some: ListenerSet| match some.rebind(plan) {
        Ok(moved) => Ok(moved.unwrap_or(some)),
        Err(error) => Err(unbound(error)),
    };
    if let Some(ReceivedHandoff { predecessor, inheritance, sockets, others, .. }) = met {
        let others = others.into_iter().zip(inheritance.others).collect();
        let inherited = ListenerSet::inherited(sockets, inheritance.bound_for, others);
        return Ok((all_of(inherited)?, Some(predecessor)));
    }
    let given = systemd::sockets().map_err(|why| vec![config.listener_problem(0, "address", why)])?;
    match config.settings.listeners.first() {
        Some(first) if !given.is_empty() => {
            tracing::debug!("systemd has opened the sockets; listen.address and listen.port are not used");
            let given = ListenerSet::given(given, first).map_err(|error| system_error(&error))?;
            Ok((all_of(given)?, None))
        }
        Some(_) | None => Ok((ListenerSet::open(plan).map_err(unbound)?, None)),
    }
}

/// Warns if the settings need more descriptors than the process may have.
fn too_few_descriptors(config: &Config, descriptors: u64) -> Option<Diagnostic> {
    let key = "limits.connections";
    let wanted = ConnectionCapacity::new(config.settings.limits.connections, descriptors).descriptors();
    let too_few =
        u64::try_from(wanted).unwrap_or(u64::MAX) > descriptors && config.settings.limits.connections > 0;
    let message =
        format!("{wanted} descriptors may be needed, and {descriptors} are allowed: raise LimitNOFILE=");
    too_few.then(|| Diagnostic::warning(config.origin(key), key, message))
}

fn system_error(error: &std::io::Error) -> Vec<Diagnostic> {
    vec![Diagnostic::error(ValueOrigin::Profile, "", format!("the system refused: {error}"))]
}
