//! `nodegate run PROFILE`: everything opened, privileges dropped, then served until a signal.

use std::process::ExitCode;
use std::sync::Arc;

use super::{check, complain};
use crate::config::problem::{Origin, Problem};
use crate::config::{Config, Options};
use crate::engine::{Engine, Lasting};
use crate::listener::Listening;
use crate::process::{memory, privileges};
use crate::response::access_log::AccessLog;
use crate::server::{self, Loaded, Source, Start};

pub fn run(profile: &str, options: &Options) -> ExitCode {
    match start(profile, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            complain(&problems);
            ExitCode::FAILURE
        }
    }
}

fn start(profile: &str, options: &Options) -> Result<(), Vec<Problem>> {
    let config = Config::load(profile, options)?;
    let advice = check::advice(&config);
    let user = privileges::user_to_become(&config)?;
    privileges::hand_over_files(&config, user.as_ref());
    let log = AccessLog::start(config.settings.access_log.clone()).map_err(|error| system_error(&error))?;
    let lasting = Lasting { log: Arc::new(log), tickets: Arc::default(), counts: Arc::default() };
    let (engine, problems) = Engine::build(config, &lasting);
    let engine = engine
        .map_err(|_| problems.iter().filter(|problem| problem.is_error()).cloned().collect::<Vec<_>>())?;
    for problem in problems.iter().chain(&advice) {
        if problem.is_error() { tracing::error!("{problem}") } else { tracing::warn!("{problem}") }
    }
    let listening = Listening::open(&engine.config.settings.listen).map_err(|error| {
        vec![Problem::error(engine.config.origin("listen.address"), "listen.address", error.to_string())]
    })?;
    privileges::become_user(user.as_ref(), &listening.sockets)?;
    lasting.log.reopen(engine.config.settings.access_log.clone());
    memory::forget_start();
    let log = Arc::clone(&lasting.log);
    let source = Source { profile: profile.to_owned(), options: options.clone() };
    let loaded = Loaded { engine: Arc::new(engine), problems };
    let served = server::run(Start { source, loaded, lasting, listening });
    log.close();
    served.map_err(|error| system_error(&error))
}

fn system_error(error: &std::io::Error) -> Vec<Problem> {
    vec![Problem::error(Origin::Profile, "", format!("the system refused: {error}"))]
}
