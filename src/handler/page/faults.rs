//! Templates that cannot be rendered, for `check`, the log and the readiness probe.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request};
use tokio::time::timeout;

use super::variables::Circumstances;
use super::worker::{PageRequest, WorkerError, page_worker};
use super::{Choice, Page, Pages};
use crate::config::diagnostic::{Origin, Problem};
use crate::config::page::Condition;
use crate::state::shared::Engine;
use crate::upstream::client::{Phase, Upstream};

/// For a page from the worker, which `check` waits for. A request starts the worker, and that loads the product's modules.
const WORKER_TIMEOUT: Duration = Duration::from_secs(10);
const USER_AGENT_VALUE: &str = concat!("nodegate/", env!("CARGO_PKG_VERSION"));

/// A template that cannot be rendered.
struct Fault {
    /// the pages that need it, such as `/ (console, novnc)`
    pages: String,
    /// requests for these pages
    targets: Vec<String>,
    /// with the file's path
    error: String,
    /// whether its package seems to be there
    installed: bool,
}

/// What is known of the worker where nodegate cannot render a page.
enum Remedy {
    /// no worker is set
    None,
    /// users get the page if the worker renders it
    Untried,
    Rendered,
    Failed(String),
}

impl Pages {
    /// What is wrong with the templates, each named once. It is an error where users get a page that fails: no worker
    /// is set, and the template's package is installed. The worker is not asked: nodegate starts without it.
    pub fn problems(&self) -> Vec<Problem> {
        let remedy = || if self.worker.address.is_some() { Remedy::Untried } else { Remedy::None };
        let faults = self.faults(Depth::Render);
        faults.iter().map(|fault| self.problem(fault, &remedy())).chain(self.gaps()).collect()
    }

    /// The same, where the worker is asked for each page: one that it does not render either is an error.
    pub async fn tried_problems(&self, engine: &Engine) -> Vec<Problem> {
        let Some(upstream) = page_worker(&engine.config) else { return self.problems() };
        let mut problems = Vec::new();
        // A worker that is away is waited for once.
        let mut away = None;
        for fault in self.faults(Depth::Render) {
            let remedy = match &away {
                _ if !fault.installed => Remedy::Untried,
                Some(cause) => Remedy::Failed(String::clone(cause)),
                None => self.try_worker(engine, &upstream, &fault.targets, &mut away).await,
            };
            problems.push(self.problem(&fault, &remedy));
        }
        problems.extend(self.gaps());
        problems
    }

    /// Templates that use variables beyond the profile's, as far as a first visit shows it.
    fn gaps(&self) -> Vec<Problem> {
        let choices = self.all.iter().flat_map(|page| &page.choices);
        let templates: BTreeMap<_, _> =
            choices.map(|choice| (choice.template.file.path(), &choice.template)).collect();
        let gaps = templates.into_iter().filter_map(|(path, template)| {
            let rendered = self.render_template(&template.file.current().ok()?.value, &NOBODY).ok()?;
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

    fn problem(&self, fault: &Fault, remedy: &Remedy) -> Problem {
        let Fault { pages, error, installed, .. } = fault;
        let missing = if *installed { "" } else { "; its package is not installed" };
        let what = format!("page {pages} cannot be rendered: {error}{missing}");
        let failing = |remedy: &str| Problem::error(Origin::Profile, KEY, format!("{what}; {remedy}"));
        let worker = self.worker.address.as_deref().unwrap_or_default();
        match remedy {
            Remedy::None if *installed => failing(&self.worker.remedy),
            Remedy::None => warning(what),
            Remedy::Untried => warning(format!("{what}; the worker at {worker} is asked for it")),
            Remedy::Rendered => warning(format!("{what}; the worker at {worker} renders it")),
            Remedy::Failed(cause) => failing(&format!("the worker at {worker} {cause}")),
        }
    }

    /// Asks the worker for the pages of a template. A cause that holds for all pages is put into `away`.
    async fn try_worker(
        &self,
        engine: &Engine,
        upstream: &Upstream,
        targets: &[String],
        away: &mut Option<String>,
    ) -> Remedy {
        if targets.is_empty() {
            return Remedy::Untried;
        }
        for target in targets {
            let asking = self.ask_for(engine, upstream, target);
            let cause = match timeout(WORKER_TIMEOUT, asking).await {
                Ok(Ok(())) => continue,
                Ok(Err(WorkerError::Upstream(error))) if error.phase == Phase::Connect => {
                    let cause = error.cause;
                    format!(
                        "takes no connection: {cause}; it starts with nodegate: run this check again while it runs"
                    )
                }
                Ok(Err(error)) => {
                    let told = if let WorkerError::Status { status, reason } = &error {
                        format!("it answered {status} {reason}").trim_end().to_owned()
                    } else {
                        error.to_string()
                    };
                    return Remedy::Failed(format!(
                        "does not render GET {target} either: {told}; its log tells more"
                    ));
                }
                Err(_) => {
                    let seconds = WORKER_TIMEOUT.as_secs();
                    format!("does not answer GET {target} within {seconds} s; its log tells more")
                }
            };
            *away = Some(cause.clone());
            return Remedy::Failed(cause);
        }
        Remedy::Rendered
    }

    /// As a browser that is not logged in.
    async fn ask_for(&self, engine: &Engine, upstream: &Upstream, target: &str) -> Result<(), WorkerError> {
        let request = Request::get(target).header(HOST, "localhost").header(USER_AGENT, USER_AGENT_VALUE);
        let (head, ()) = request.body(()).map_err(|_| WorkerError::Target)?.into_parts();
        let client = HeaderValue::from_static("127.0.0.1");
        let asked = PageRequest { path: head.uri.path(), head: &head, login: None, client: &client };
        self.ask(engine, upstream, &asked).await.map(drop)
    }

    /// The pages that need a worker, such as `/ (console, novnc)`. Names no file.
    pub fn beyond_reader(&self) -> Vec<String> {
        self.faults(Depth::Parse)
            .into_iter()
            .filter(|fault| fault.installed)
            .map(|fault| fault.pages)
            .collect()
    }

    fn faults(&self, depth: Depth) -> Vec<Fault> {
        let mut templates: BTreeMap<&Path, Vec<(&Page, &Choice)>> = BTreeMap::new();
        for page in &self.all {
            for choice in &page.choices {
                templates.entry(choice.template.file.path()).or_default().push((page, choice));
            }
        }
        let faults = templates.into_iter().filter_map(|(path, uses)| {
            let (_, choice) = uses.first()?;
            let (error, is_missing) = match choice.template.file.current() {
                Err(error) => (error.to_string(), error.is_missing()),
                Ok(template) if depth == Depth::Render => {
                    let error = self.render_template(&template.value, &NOBODY).err()?;
                    (format!("{}: {error}", path.display()), false)
                }
                Ok(_) => return None,
            };
            let installed = !is_missing || path.parent().is_some_and(Path::is_dir);
            let pages: Vec<_> = uses.iter().map(|(page, choice)| label(page, choice)).collect();
            let targets = uses.iter().filter_map(|(_, choice)| choice.target.clone()).collect();
            Some(Fault { pages: pages.join(", "), targets, error, installed })
        });
        faults.collect()
    }
}

/// How far a template is tried.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Depth {
    Parse,
    Render,
}

/// A first visit.
const NOBODY: Circumstances<'static> = Circumstances { cookies: "", query: "", user_agent: "", login: None };

const KEY: &str = "product.page";

fn warning(message: String) -> Problem {
    Problem::warning(Origin::Profile, KEY, message)
}

fn label(page: &Page, choice: &Choice) -> String {
    if choice.when.is_empty() {
        page.url.clone()
    } else {
        let names: Vec<_> = choice.when.iter().map(Condition::variable).collect();
        format!("{} ({})", page.url, names.join(", "))
    }
}
