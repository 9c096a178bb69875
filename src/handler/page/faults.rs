//! Templates that cannot be rendered, for `check`, the log and the readiness probe.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request};
use tokio::time::timeout;

use super::variables::VariableContext;
use super::worker::{PageRequest, WorkerError};
use super::{PageSet, ParsedChoice, ProfilePage};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::page::TemplateCondition;
use crate::state::shared::AppState;
use crate::state::upstreams::page_client;
use crate::upstream::client::{FailurePhase, UpstreamClient};

/// For a page of the worker in `check`. The first request starts the worker, which loads the product's modules.
const WORKER_TIMEOUT: Duration = Duration::from_secs(10);
/// The end of the warning about a page whose template and directory are missing.
pub const NOT_INSTALLED: &str = "its package is not installed";
/// Ends the warning about a page that users get from the worker.
pub const RENDERED_BY_WORKER: &str = "renders it";
const USER_AGENT_VALUE: &str = concat!("nodegate/", env!("CARGO_PKG_VERSION"));

/// A template that cannot be rendered.
struct TemplateFault {
    /// the pages that use it, for example `/ (console, viewer)`
    pages: String,
    /// requests for these pages
    targets: Vec<String>,
    /// with the file's path
    error: String,
    /// whether its package seems to be installed
    installed: bool,
}

/// The worker's result for a page that nodegate cannot render.
enum WorkerFallback {
    /// no worker is set
    None,
    /// users get the page if the worker renders it
    Untried,
    Rendered,
    Failed(String),
}

impl PageSet {
    /// The problems of the templates, each once. It is an error if no worker is set and the template's package is
    /// installed, because then users get a failing page. No request goes to the worker: nodegate starts without it.
    pub fn problems(&self) -> Vec<Diagnostic> {
        let remedy =
            || if self.worker.address.is_some() { WorkerFallback::Untried } else { WorkerFallback::None };
        let faults = self.faults(CheckDepth::Render);
        faults.iter().map(|fault| self.problem(fault, &remedy())).chain(self.gaps()).collect()
    }

    /// The problems of the templates, with a request to the worker for each page. A page that the worker does not render
    /// either is an error.
    pub async fn problems_with_worker(&self, state: &AppState) -> Vec<Diagnostic> {
        let Some(upstream) = page_client(state) else { return self.problems() };
        let mut problems = Vec::new();
        // An unreachable worker costs one timeout.
        let mut away = None;
        for fault in self.faults(CheckDepth::Render) {
            let remedy = match &away {
                _ if !fault.installed => WorkerFallback::Untried,
                Some(cause) => WorkerFallback::Failed(String::clone(cause)),
                None => self.try_worker(state, &upstream, &fault.targets, &mut away).await,
            };
            problems.push(self.problem(&fault, &remedy));
        }
        problems.extend(self.gaps());
        problems
    }

    /// Templates that use undeclared variables when a client without cookies requests them.
    fn gaps(&self) -> Vec<Diagnostic> {
        let choices = self.all.iter().flat_map(|page| &page.choices);
        let templates: BTreeMap<_, _> =
            choices.map(|choice| (choice.template.file.path(), &choice.template)).collect();
        let gaps = templates.into_iter().filter_map(|(path, template)| {
            let rendered = self.render_template(&template.file.get().ok()?.value, &FIRST_VISIT).ok()?;
            let variables = self.undeclared(&rendered)?;
            let then = match &self.worker.address {
                Some(worker) => format!("the worker at {worker} is asked for the page"),
                None => format!("they are empty; {}", self.worker.remedy),
            };
            let file = path.display();
            Some(warning(format!("{file} uses {variables}, which the profile does not declare: {then}")))
        });
        gaps.collect()
    }

    fn problem(&self, fault: &TemplateFault, remedy: &WorkerFallback) -> Diagnostic {
        let TemplateFault { pages, error, installed, .. } = fault;
        let missing = if *installed { String::new() } else { format!("; {NOT_INSTALLED}") };
        let what = format!("page {pages} cannot be rendered: {error}{missing}");
        let failing =
            |remedy: &str| Diagnostic::error(ValueOrigin::Profile, KEY, format!("{what}; {remedy}"));
        let worker = self.worker.address.as_deref().unwrap_or_default();
        match remedy {
            WorkerFallback::None if *installed => failing(&self.worker.remedy),
            WorkerFallback::None => warning(what),
            WorkerFallback::Untried => warning(format!("{what}; the worker at {worker} is asked for it")),
            WorkerFallback::Rendered => {
                warning(format!("{what}; the worker at {worker} {RENDERED_BY_WORKER}"))
            }
            WorkerFallback::Failed(cause) => failing(&format!("the worker at {worker} {cause}")),
        }
    }

    /// Requests the pages of a template from the worker. A failure that holds for all pages is stored in `away`.
    async fn try_worker(
        &self,
        state: &AppState,
        upstream: &UpstreamClient,
        targets: &[String],
        away: &mut Option<String>,
    ) -> WorkerFallback {
        if targets.is_empty() {
            return WorkerFallback::Untried;
        }
        for target in targets {
            let fetching = self.fetch_target(state, upstream, target);
            let cause = match timeout(WORKER_TIMEOUT, fetching).await {
                Ok(Ok(())) => continue,
                Ok(Err(WorkerError::Upstream(error))) if error.phase == FailurePhase::Connect => {
                    let cause = error.cause;
                    format!(
                        "takes no connection: {cause}; it starts with nodegate: run this check again while it runs"
                    )
                }
                Ok(Err(error)) => {
                    let answer = if let WorkerError::Status { status, reason } = &error {
                        format!("it answered {status} {reason}").trim_end().to_owned()
                    } else {
                        error.to_string()
                    };
                    return WorkerFallback::Failed(format!(
                        "does not render GET {target} either: {answer}; see its log"
                    ));
                }
                Err(_) => {
                    let seconds = WORKER_TIMEOUT.as_secs();
                    format!("does not answer GET {target} within {seconds} s; see its log")
                }
            };
            *away = Some(cause.clone());
            return WorkerFallback::Failed(cause);
        }
        WorkerFallback::Rendered
    }

    /// Requests a page like a browser that is not logged in.
    async fn fetch_target(
        &self,
        state: &AppState,
        upstream: &UpstreamClient,
        target: &str,
    ) -> Result<(), WorkerError> {
        let request = Request::get(target).header(HOST, "localhost").header(USER_AGENT, USER_AGENT_VALUE);
        let (head, ()) = request.body(()).map_err(|_| WorkerError::Target)?.into_parts();
        let client = HeaderValue::from_static("127.0.0.1");
        let path = head.uri.path();
        let asked = PageRequest { path, head: &head, login: None, client: &client, schedule: None };
        self.fetch_page(state, upstream, &asked).await.map(drop)
    }

    /// The pages that need a worker, for example `/ (console, viewer)`, without file names.
    pub fn pages_for_worker(&self) -> Vec<String> {
        self.faults(CheckDepth::Parse)
            .into_iter()
            .filter(|fault| fault.installed)
            .map(|fault| fault.pages)
            .collect()
    }

    fn faults(&self, depth: CheckDepth) -> Vec<TemplateFault> {
        let mut templates: BTreeMap<&Path, Vec<(&ProfilePage, &ParsedChoice)>> = BTreeMap::new();
        for page in &self.all {
            for choice in &page.choices {
                templates.entry(choice.template.file.path()).or_default().push((page, choice));
            }
        }
        let faults = templates.into_iter().filter_map(|(path, uses)| {
            let (_, choice) = uses.first()?;
            let (error, is_missing) = match choice.template.file.get() {
                Err(error) => (error.to_string(), error.is_missing()),
                Ok(template) if depth == CheckDepth::Render => {
                    let error = self.render_template(&template.value, &FIRST_VISIT).err()?;
                    (format!("{}: {error}", path.display()), false)
                }
                Ok(_) => return None,
            };
            let installed = !is_missing || path.parent().is_some_and(Path::is_dir);
            let pages: Vec<_> = uses.iter().map(|(page, choice)| label(page, choice)).collect();
            let targets = uses.iter().filter_map(|(_, choice)| choice.target.clone()).collect();
            Some(TemplateFault { pages: pages.join(", "), targets, error, installed })
        });
        faults.collect()
    }
}

/// The depth of a check of a template.
#[derive(Clone, Copy, Eq, PartialEq)]
enum CheckDepth {
    Parse,
    Render,
}

/// A request without cookies and login.
const FIRST_VISIT: VariableContext<'static> =
    VariableContext { cookies: "", query: "", user_agent: "", login: None };

const KEY: &str = "product.page";

fn warning(message: String) -> Diagnostic {
    Diagnostic::warning(ValueOrigin::Profile, KEY, message)
}

fn label(page: &ProfilePage, choice: &ParsedChoice) -> String {
    if choice.when.is_empty() {
        page.url.clone()
    } else {
        let names: Vec<_> = choice.when.iter().map(TemplateCondition::variable).collect();
        format!("{} ({})", page.url, names.join(", "))
    }
}
