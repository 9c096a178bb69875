//! The values of a template's variables for one request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::sanitized::SanitizedValue;
use super::source::{OpenedSource, PathPart, parts, whole_pattern};
use crate::auth::authenticator::PageLogin;
use crate::auth::authenticator::credential::value_of;
use crate::config::page::{self, TemplateCondition, VariableKind};
use crate::config::root::RootDirectory;
use crate::config::section_file;
use crate::fs::cached_file::CachedFile;
use crate::http::target::query_parameters;
use crate::os::unix_time::unix_time;

/// The parts of a request from which variables get values.
pub(super) struct VariableContext<'r> {
    /// every `Cookie` line joined by `; `
    pub cookies: &'r str,
    pub query: &'r str,
    pub user_agent: &'r str,
    pub login: Option<&'r PageLogin>,
}

/// The variables of a profile, with compiled patterns and opened files.
pub(super) struct ProfileVariables {
    declared: BTreeMap<String, ProfileVariable>,
    node_name: String,
    root: RootDirectory,
}

struct ProfileVariable {
    kind: VariableKind,
    pattern: Option<Regex>,
    from: Vec<OpenedSource>,
}

enum QueryParameter {
    Valued(String),
    /// without a `=`
    Bare,
}

fn parameter(context: &VariableContext<'_>, name: &str) -> Option<QueryParameter> {
    let mut parameters = query_parameters(context.query);
    let (_, value) = parameters.find(|(known, _)| known == name)?;
    Some(value.map_or(QueryParameter::Bare, |value| QueryParameter::Valued(value.into_owned())))
}

impl ProfileVariables {
    pub(super) fn new(
        declared: &BTreeMap<String, page::VariableRules>,
        node_name: &str,
        root: &RootDirectory,
    ) -> Result<Self, String> {
        let compile = |(name, variable): (&String, &page::VariableRules)| {
            check(variable, declared)
                .and_then(|()| ProfileVariable::new(variable, root))
                .map(|variable| (name.clone(), variable))
                .map_err(|message| format!("variable {name}: {message}"))
        };
        let declared = declared.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { declared, node_name: node_name.to_owned(), root: root.clone() })
    }

    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.declared.contains_key(name)
    }

    /// The value of the first source whose value fits the kind and the pattern. An empty query parameter is a value.
    pub(super) fn value(&self, name: &str, context: &VariableContext<'_>) -> Option<SanitizedValue> {
        let variable = self.declared.get(name)?;
        variable.from.iter().find_map(|source| {
            let raw = self.raw(source, context)?;
            if raw.is_empty() && variable.kind != VariableKind::Flag {
                return matches!(source, OpenedSource::Query(_)).then(SanitizedValue::empty);
            }
            let fits = variable.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&raw));
            if fits { SanitizedValue::new(variable.kind, &raw) } else { None }
        })
    }

    /// Whether a page's condition holds.
    pub(super) fn holds(&self, condition: &TemplateCondition, context: &VariableContext<'_>) -> bool {
        match condition {
            TemplateCondition::IsTrue(name) => self.value(name, context).is_some_and(|value| value.is_true()),
            TemplateCondition::IsDefined(condition) => {
                self.declared.get(&condition.defined).is_some_and(|variable| {
                    variable.from.iter().any(|source| self.raw(source, context).is_some())
                })
            }
        }
    }

    fn raw(&self, source: &OpenedSource, context: &VariableContext<'_>) -> Option<String> {
        let yes = |holds: bool| holds.then(|| "1".to_owned());
        match source {
            OpenedSource::Cookie(name) => value_of(name, context.cookies),
            OpenedSource::Query(name) => match parameter(context, name)? {
                QueryParameter::Valued(value) => Some(value),
                QueryParameter::Bare => None,
            },
            OpenedSource::BareQuery { name, value } => match parameter(context, name)? {
                QueryParameter::Valued(_) => None,
                QueryParameter::Bare => Some(value.clone()),
            },
            OpenedSource::UserAgent { all, none } => {
                let matches = |pattern: &Regex| pattern.is_match(context.user_agent);
                yes(all.iter().all(matches) && !none.iter().any(matches))
            }
            OpenedSource::Match { file, pattern } => {
                let text = contents(file)?;
                pattern.captures(&text)?.get(1).map(|found| found.as_str().trim().to_owned())
            }
            OpenedSource::Section { file, section, key } => {
                section_file::find_value(&contents(file)?, section, key)
            }
            OpenedSource::Modified(path) => modified(path),
            OpenedSource::Exists(parts) => self.path(parts, context).and_then(|path| yes(path.exists())),
            OpenedSource::Text(text) => Some(text.clone()),
            OpenedSource::NodeName => Some(self.node_name.clone()),
            OpenedSource::Architecture => Some(architecture().to_owned()),
            OpenedSource::User => context.login.map(|login| login.user.clone()),
            OpenedSource::CsrfToken => context.login.map(|login| login.csrf_token.clone()),
            OpenedSource::Debug => yes(tracing::enabled!(tracing::Level::DEBUG)),
        }
    }

    fn path(&self, parts: &[PathPart], context: &VariableContext<'_>) -> Option<PathBuf> {
        let mut path = String::new();
        for part in parts {
            match part {
                PathPart::Literal(text) => path.push_str(text),
                PathPart::Variable(name) => path.push_str(self.value(name, context)?.raw()),
            }
        }
        Some(self.root.path(path))
    }
}

/// Verifies rules that types cannot express: the variables of a path are words without a path, and a text fits its
/// variable.
fn check(
    variable: &page::VariableRules,
    declared: &BTreeMap<String, page::VariableRules>,
) -> Result<(), String> {
    for source in &variable.from {
        if let page::VariableSource::Exists(path) = source {
            check_path(path, declared)?;
        } else if let page::VariableSource::Text(text) = source
            && SanitizedValue::new(variable.kind, text).is_none()
        {
            return Err(format!("'{text}' does not fit the kind"));
        }
    }
    Ok(())
}

fn check_path(path: &str, declared: &BTreeMap<String, page::VariableRules>) -> Result<(), String> {
    for part in parts(path)? {
        let PathPart::Variable(name) = part else { continue };
        let used = declared.get(&name).ok_or_else(|| format!("'{name}' is not declared"))?;
        let needs_path = used.from.iter().any(|from| matches!(from, page::VariableSource::Exists(_)));
        if used.kind != VariableKind::Word || needs_path {
            return Err(format!("'{name}' is not a word, or depends on a path itself"));
        }
    }
    Ok(())
}

impl ProfileVariable {
    fn new(variable: &page::VariableRules, root: &RootDirectory) -> Result<Self, String> {
        Ok(Self {
            kind: variable.kind,
            pattern: variable.pattern.as_deref().map(whole_pattern).transpose()?,
            from: variable
                .from
                .iter()
                .map(|source| OpenedSource::new(source, root))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The file's contents. Without the file, the next source is used.
fn contents(file: &CachedFile<String>) -> Option<std::sync::Arc<String>> {
    match file.get() {
        Ok(snapshot) => Some(snapshot.value),
        Err(error) => {
            tracing::debug!(%error, "no value for a page");
            None
        }
    }
}

fn modified(path: &Path) -> Option<String> {
    let time = std::fs::metadata(path).ok()?.modified().ok()?;
    Some(unix_time(time).to_string())
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
