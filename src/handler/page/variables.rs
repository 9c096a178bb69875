//! What a template's variables are worth for one request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use regex::Regex;

use super::sanitized::Sanitized;
use super::source::{Part, Source, parts, whole_pattern};
use crate::auth::authenticator::Login;
use crate::auth::authenticator::credential::value_of;
use crate::config::page;
use crate::config::page::{Condition, Kind};
use crate::config::root::Root;
use crate::config::section_file;
use crate::fs::cached_file::WatchedFile;
use crate::http::target::query_parameters;

/// What a request brings for the variables.
pub(super) struct Circumstances<'r> {
    /// every `Cookie` line joined by `; `
    pub cookies: &'r str,
    pub query: &'r str,
    pub user_agent: &'r str,
    pub login: Option<&'r Login>,
}

/// The variables of a profile, ready to be looked up.
pub(super) struct Variables {
    declared: BTreeMap<String, Variable>,
    node_name: String,
    root: Root,
}

struct Variable {
    kind: Kind,
    pattern: Option<Regex>,
    from: Vec<Source>,
}

/// A query parameter.
enum Parameter {
    Valued(String),
    /// without a `=`
    Bare,
}

fn parameter(circumstances: &Circumstances<'_>, name: &str) -> Option<Parameter> {
    let mut parameters = query_parameters(circumstances.query);
    let (_, value) = parameters.find(|(known, _)| known == name)?;
    Some(value.map_or(Parameter::Bare, |value| Parameter::Valued(value.into_owned())))
}

impl Variables {
    pub(super) fn new(
        declared: &BTreeMap<String, page::Variable>,
        node_name: &str,
        root: &Root,
    ) -> Result<Self, String> {
        let compile = |(name, variable): (&String, &page::Variable)| {
            check(variable, declared)
                .and_then(|()| Variable::new(variable, root))
                .map(|variable| (name.clone(), variable))
                .map_err(|message| format!("variable {name}: {message}"))
        };
        let declared = declared.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { declared, node_name: node_name.to_owned(), root: root.clone() })
    }

    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.declared.contains_key(name)
    }

    /// The value of the first source that has one that fits. An empty query parameter is a value.
    pub(super) fn value(&self, name: &str, circumstances: &Circumstances<'_>) -> Option<Sanitized> {
        let variable = self.declared.get(name)?;
        variable.from.iter().find_map(|source| {
            let raw = self.raw(source, circumstances)?;
            if raw.is_empty() && variable.kind != Kind::Flag {
                return matches!(source, Source::Query(_)).then(Sanitized::empty);
            }
            let fits = variable.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&raw));
            if fits { Sanitized::new(variable.kind, &raw) } else { None }
        })
    }

    /// Whether a page's condition holds.
    pub(super) fn holds(&self, condition: &Condition, circumstances: &Circumstances<'_>) -> bool {
        match condition {
            Condition::IsTrue(name) => self.value(name, circumstances).is_some_and(|value| value.is_true()),
            Condition::IsDefined(condition) => {
                self.declared.get(&condition.defined).is_some_and(|variable| {
                    variable.from.iter().any(|source| self.raw(source, circumstances).is_some())
                })
            }
        }
    }

    fn raw(&self, source: &Source, circumstances: &Circumstances<'_>) -> Option<String> {
        let yes = |holds: bool| holds.then(|| "1".to_owned());
        match source {
            Source::Cookie(name) => value_of(name, circumstances.cookies),
            Source::Query(name) => match parameter(circumstances, name)? {
                Parameter::Valued(value) => Some(value),
                Parameter::Bare => None,
            },
            Source::BareQuery(bare) => match parameter(circumstances, &bare.name)? {
                Parameter::Valued(_) => None,
                Parameter::Bare => Some(bare.value.clone()),
            },
            Source::UserAgent { all, none } => {
                let matches = |pattern: &Regex| pattern.is_match(circumstances.user_agent);
                yes(all.iter().all(matches) && !none.iter().any(matches))
            }
            Source::Match { file, pattern } => {
                let text = contents(file)?;
                pattern.captures(&text)?.get(1).map(|found| found.as_str().trim().to_owned())
            }
            Source::Section { file, section, key } => section_file::parse(&contents(file)?)
                .iter()
                .find(|found| found.kind == "section" && found.id == *section)
                .and_then(|found| found.value(key).map(str::to_owned)),
            Source::Modified(path) => modified(path),
            Source::Exists(parts) => self.path(parts, circumstances).and_then(|path| yes(path.exists())),
            Source::Text(text) => Some(text.clone()),
            Source::NodeName => Some(self.node_name.clone()),
            Source::Architecture => Some(architecture().to_owned()),
            Source::User => circumstances.login.map(|login| login.user.clone()),
            Source::CsrfToken => circumstances.login.map(|login| login.csrf_token.clone()),
            Source::Debug => yes(tracing::enabled!(tracing::Level::DEBUG)),
        }
    }

    fn path(&self, parts: &[Part], circumstances: &Circumstances<'_>) -> Option<PathBuf> {
        let mut path = String::new();
        for part in parts {
            match part {
                Part::Literal(text) => path.push_str(text),
                Part::Variable(name) => path.push_str(self.value(name, circumstances)?.raw()),
            }
        }
        Some(self.root.path(path))
    }
}

/// What no type can say: a path is made of words that need no path themselves, and a text fits its variable.
fn check(variable: &page::Variable, declared: &BTreeMap<String, page::Variable>) -> Result<(), String> {
    for source in &variable.from {
        if let page::Source::Exists(path) = source {
            check_path(path, declared)?;
        } else if let page::Source::Text(text) = source
            && Sanitized::new(variable.kind, text).is_none()
        {
            return Err(format!("'{text}' does not fit the kind"));
        }
    }
    Ok(())
}

fn check_path(path: &str, declared: &BTreeMap<String, page::Variable>) -> Result<(), String> {
    for part in parts(path)? {
        let Part::Variable(name) = part else { continue };
        let used = declared.get(&name).ok_or_else(|| format!("'{name}' is not declared"))?;
        let needs_path = used.from.iter().any(|from| matches!(from, page::Source::Exists(_)));
        if used.kind != Kind::Word || needs_path {
            return Err(format!("'{name}' is no word, or depends on a path itself"));
        }
    }
    Ok(())
}

impl Variable {
    fn new(variable: &page::Variable, root: &Root) -> Result<Self, String> {
        Ok(Self {
            kind: variable.kind,
            pattern: variable.pattern.as_deref().map(whole_pattern).transpose()?,
            from: variable.from.iter().map(|source| Source::new(source, root)).collect::<Result<_, _>>()?,
        })
    }
}

/// Nothing where there is no such file: the next source is asked.
fn contents(file: &WatchedFile<String>) -> Option<std::sync::Arc<String>> {
    match file.current() {
        Ok(snapshot) => Some(snapshot.value),
        Err(error) => {
            tracing::debug!(%error, "no value for a page");
            None
        }
    }
}

fn modified(path: &Path) -> Option<String> {
    let time = std::fs::metadata(path).ok()?.modified().ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs().to_string())
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        "arm" => "armhf",
        "powerpc64" => "ppc64el",
        "loongarch64" => "loong64",
        other => other,
    }
}
