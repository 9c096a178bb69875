//! The sources of the configuration, so that it can be loaded again.

use crate::config::command_line::command_line;
use crate::config::diagnostic::{Diagnosed, Diagnostic, ValueOrigin};
use crate::config::{Config, ConfigDifference, ConfigSources};
use crate::os::{listener, log_file, sandbox};
use crate::proxy::handlers::App;
use crate::state::cluster_access;
use crate::state::shared::PersistentState;

/// The options of the command line.
#[derive(Clone)]
pub struct ConfigLoader {
    pub profile: String,
    pub options: ConfigSources,
}

/// The state of a configuration, and its problems that do not prevent serving.
#[derive(Clone)]
pub struct LoadedConfig {
    pub app: App,
    pub problems: Vec<Diagnostic>,
}

impl LoadedConfig {
    /// A page that fails is logged like any other problem and does not prevent serving, so it is added last.
    pub fn new(app: App, mut problems: Vec<Diagnostic>) -> Self {
        problems.extend(app.handlers.pages.problems());
        Self { app, problems }
    }
}

impl ConfigLoader {
    /// Loads the configuration again. Any error rejects it, except for errors that the process already serves with.
    pub(super) fn load(
        &self,
        lasting: &PersistentState,
        known: &[Diagnostic],
    ) -> Result<LoadedConfig, Vec<Diagnostic>> {
        let mut config = Config::load(&self.profile, &self.options)?;
        config.problems.extend(sandbox::problem(&config));
        config.problems.extend(log_file::problem(&config));
        let Diagnosed { value: app, mut problems } = App::build(config, lasting);
        let is_known = |problem: &Diagnostic| known.iter().any(|known| known == problem);
        let mut errors: Vec<_> =
            problems.iter().filter(|problem| problem.is_error() && !is_known(problem)).cloned().collect();
        if !errors.is_empty() {
            let config = app.as_ref().map_or_else(|config| config, |app| &app.state.config);
            errors.extend(listener::address_problems(config));
        }
        if let Ok(app) = &app {
            let of_nodes = cluster_access::problems(&app.state.config).into_iter();
            problems.extend(of_nodes.map(Diagnostic::into_warning));
        }
        match app {
            Ok(app) if errors.is_empty() => Ok(LoadedConfig::new(app, problems)),
            Err(_) if errors.is_empty() => {
                Err(vec![Diagnostic::error(ValueOrigin::Profile, "", "the configuration cannot be served")])
            }
            Ok(_) | Err(_) => Err(errors),
        }
    }

    /// Rejects a configuration that has one of the `unwanted` values, which were reverted before.
    pub(super) fn refuse(&self, unwanted: Option<&ConfigDifference>) -> Result<(), Vec<Diagnostic>> {
        let Some(unwanted) = unwanted else { return Ok(()) };
        let held = Config::load(&self.profile, &self.options)?.held_of(unwanted);
        if held.is_empty() {
            return Ok(());
        }
        let message = format!(
            "was reverted because the reload was not confirmed, and the files still hold it: correct it, or put it in \
             effect with `{} --force`",
            command_line("reload", &self.profile, &self.options)
        );
        Err(held.problems(&message))
    }
}
