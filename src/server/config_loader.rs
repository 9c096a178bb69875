//! Where the configuration comes from, so that it can be loaded again.

use std::sync::Arc;

use crate::config::diagnostic::{Origin, Problem, Severity};
use crate::config::{Config, Difference, Options};
use crate::os::sandbox;
use crate::state::cluster_access;
use crate::state::shared::{Engine, Lasting};

/// What the command line said.
#[derive(Clone)]
pub struct Source {
    pub profile: String,
    pub options: Options,
}

/// An engine, and what is wrong with its configuration though it can serve.
#[derive(Clone)]
pub struct Loaded {
    pub engine: Arc<Engine>,
    pub problems: Vec<Problem>,
}

impl Loaded {
    /// A page that fails is logged like any other problem, and keeps nobody from serving: so it is added last.
    pub fn new(engine: Engine, mut problems: Vec<Problem>) -> Self {
        problems.extend(engine.pages.problems());
        Self { engine: Arc::new(engine), problems }
    }
}

impl Source {
    /// Loads everything again. An error refuses it all, but one that the process has been serving with already.
    pub(super) fn load(&self, lasting: &Lasting, known: &[Problem]) -> Result<Loaded, Vec<Problem>> {
        let mut config = Config::load(&self.profile, &self.options)?;
        config.problems.extend(sandbox::problem(&config));
        let (engine, mut problems) = Engine::build(config, lasting);
        let is_known = |problem: &Problem| known.iter().any(|known| known == problem);
        let errors: Vec<_> =
            problems.iter().filter(|problem| problem.is_error() && !is_known(problem)).cloned().collect();
        if let Ok(engine) = &engine {
            let mild = |problem| Problem { severity: Severity::Warning, ..problem };
            problems.extend(cluster_access::problems(&engine.config).into_iter().map(mild));
        }
        match engine {
            Ok(engine) if errors.is_empty() => Ok(Loaded::new(engine, problems)),
            Err(_) if errors.is_empty() => {
                Err(vec![Problem::error(Origin::Profile, "", "the configuration cannot be served")])
            }
            Ok(_) | Err(_) => Err(errors),
        }
    }

    /// Refuses a configuration that has all of the `unwanted` values, which were taken back before.
    pub(super) fn refuse(&self, unwanted: Option<&Difference>) -> Result<(), Vec<Problem>> {
        let Some(unwanted) = unwanted else { return Ok(()) };
        if !Config::load(&self.profile, &self.options)?.has_all_of(unwanted) {
            return Ok(());
        }
        let message = format!(
            "was taken back because nobody confirmed it, and the files still hold it: correct it, or put it in \
             effect with `nodegate reload {} --force`",
            self.profile
        );
        Err(unwanted.problems(&message))
    }
}
