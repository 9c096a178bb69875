//! Templates that cannot be rendered, for `check`, the log and the readiness probe.

use std::collections::BTreeMap;
use std::path::Path;

use super::variables::Circumstances;
use super::{Choice, Page, Pages};
use crate::config::page::Condition;
use crate::config::problem::{Origin, Problem};

/// A template that cannot be rendered.
struct Fault {
    /// the pages that need it, such as `/ (console, novnc)`
    pages: String,
    /// with the file's path
    error: String,
    /// whether its package seems to be there
    installed: bool,
}

impl Pages {
    /// What is wrong with the templates, each named once. It is an error where users get a page that fails: no worker
    /// is set, and the template's package is installed.
    pub fn problems(&self) -> Vec<Problem> {
        let faults = self.faults(Depth::Render).into_iter().map(|Fault { pages, error, installed }| {
            let missing = if installed { "" } else { "; its package is not installed" };
            let what = format!("page {pages} cannot be rendered: {error}{missing}");
            match &self.worker.address {
                Some(worker) => warning(format!("{what}; the worker at {worker} is asked for it")),
                None if installed => {
                    Problem::error(Origin::Profile, KEY, format!("{what}; {}", self.worker.remedy))
                }
                None => warning(what),
            }
        });
        faults.collect()
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
        let mut templates: BTreeMap<&Path, (&Choice, Vec<String>)> = BTreeMap::new();
        for page in &self.all {
            for choice in &page.choices {
                let path = choice.template.file.path();
                templates.entry(path).or_insert_with(|| (choice, Vec::new())).1.push(label(page, choice));
            }
        }
        let faults = templates.into_iter().filter_map(|(path, (choice, pages))| {
            let (error, is_missing) = match choice.template.file.current() {
                Err(error) => (error.to_string(), error.is_missing()),
                Ok(template) if depth == Depth::Render => {
                    let error = self.render_template(&template.value, &NOBODY).err()?;
                    (format!("{}: {error}", path.display()), false)
                }
                Ok(_) => return None,
            };
            let installed = !is_missing || path.parent().is_some_and(Path::is_dir);
            Some(Fault { pages: pages.join(", "), error, installed })
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
