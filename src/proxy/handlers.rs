//! The handlers of a product, built once for each configuration and shared by all workers.

use std::sync::Arc;

use crate::config::diagnostic::{Diagnosed, Diagnostic};
use crate::config::{self, Config};
use crate::handler::api::ApiHandler;
use crate::handler::console::target::ConsoleRules;
use crate::handler::health::{self, HealthProbe, ProbeAnswer, ReadinessCache, ReadinessInputs};
use crate::handler::page::PageSet;
use crate::handler::tunnel::TunnelRules;
use crate::handler::upload::UploadHandler;
use crate::metrics::counters::Metrics;
use crate::proxy::router::RouteRules;
use crate::state::shared::{AppState, PersistentState};

/// A product, ready to serve.
#[derive(Clone)]
pub struct App {
    pub state: Arc<AppState>,
    pub handlers: Arc<Handlers>,
}

/// The handlers that the profile and the settings ask for.
pub struct Handlers {
    pub routes: RouteRules,
    pub api: ApiHandler,
    pub pages: PageSet,
    pub consoles: Option<ConsoleRules>,
    pub uploads: Option<Arc<UploadHandler>>,
    /// for `CONNECT`, if the port accepts it
    pub tunnels: Option<TunnelRules>,
    readiness: ReadinessCache,
}

impl App {
    /// The product if it can serve, otherwise its configuration. It serves in spite of some problems.
    pub fn build(mut config: Config, persistent: &PersistentState) -> Diagnosed<Result<Self, Config>> {
        let mut problems = std::mem::take(&mut config.problems);
        let profile = config.profile_file.clone();
        let is_broken = problems.iter().any(Diagnostic::is_error);
        let handlers = Handlers::new(&config, &persistent.metrics, &mut problems);
        let Diagnosed { value: state, problems: more } = AppState::build(config, persistent);
        problems.extend(more);
        let value = match (state, handlers) {
            (Ok(state), Some(handlers)) if !is_broken => {
                state.preload();
                handlers.tunnels.iter().for_each(TunnelRules::preload);
                Ok(Self { state: Arc::new(state), handlers: Arc::new(handlers) })
            }
            (Ok(state), _) => Err(state.config),
            (Err(config), _) => Err(config),
        };
        config::name_the_profile(profile.as_deref(), &mut problems);
        Diagnosed { value, problems }
    }
}

impl Handlers {
    /// All handlers, or every problem of any.
    fn new(config: &Config, metrics: &Metrics, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut note = |message| problems.push(Diagnostic::of_product(message));
        let routes = RouteRules::new(config);
        let pages = PageSet::new(config).map_err(&mut note).ok();
        let consoles = ConsoleRules::new(config).map_err(&mut note).ok();
        let table = Arc::clone(&routes.table);
        let uploads = UploadHandler::new(config, table, metrics.uploads.clone()).map_err(&mut note).ok();
        let api = ApiHandler::new(config, metrics).map_err(&mut note).ok();
        Some(Self {
            routes,
            api: api?,
            pages: pages?,
            consoles: consoles?,
            uploads: uploads?.map(Arc::new),
            tunnels: TunnelRules::new(config),
            readiness: ReadinessCache::default(),
        })
    }

    /// The answer to a probe.
    pub async fn probe(&self, state: &AppState, probe: HealthProbe) -> ProbeAnswer {
        let inputs = ReadinessInputs { state, tunnels: self.tunnels.as_ref(), pages: &self.pages };
        health::run_probe(&self.readiness, &inputs, probe).await
    }
}
