//! What a template's variables are worth for one request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use regex::{Regex, RegexBuilder};

use super::inert::Inert;
use crate::config::page::{self, Kind};
use crate::config::root::Root;
use crate::config::sections;
use crate::gate::Login;
use crate::gate::credential::value_of;
use crate::target::query_parameters;
use crate::watched_file::WatchedFile;

/// Memory that a compiled pattern of a profile may take.
const PATTERN_SIZE: usize = 1 << 20;

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

/// As in the profile, with patterns compiled and files opened under the root.
enum Source {
    Cookie(String),
    Query(String),
    UserAgent { all: Vec<Regex>, none: Vec<Regex> },
    Match { file: WatchedFile<String>, pattern: Regex },
    Section { file: WatchedFile<String>, section: String, key: String },
    Modified(PathBuf),
    Exists(Vec<Part>),
    Text(String),
    NodeName,
    Architecture,
    User,
    CsrfToken,
    Debug,
}

/// A piece of a path.
enum Part {
    Literal(String),
    Variable(String),
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

    /// The value of the first source that has one that fits.
    pub(super) fn value(&self, name: &str, circumstances: &Circumstances<'_>) -> Option<Inert> {
        let variable = self.declared.get(name)?;
        variable.from.iter().find_map(|source| {
            let raw = self.raw(source, variable.kind, circumstances)?;
            let fits = variable.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&raw));
            if fits { Inert::new(variable.kind, &raw) } else { None }
        })
    }

    fn raw(&self, source: &Source, kind: Kind, circumstances: &Circumstances<'_>) -> Option<String> {
        let yes = |holds: bool| holds.then(|| "1".to_owned());
        match source {
            Source::Cookie(name) => value_of(name, circumstances.cookies),
            Source::Query(name) => {
                match query_parameters(circumstances.query).find(|(known, _)| known == name)?.1 {
                    Some(value) => Some(value.into_owned()).filter(|value| !value.is_empty()),
                    None => yes(kind == Kind::Flag),
                }
            }
            Source::UserAgent { all, none } => {
                let matches = |pattern: &Regex| pattern.is_match(circumstances.user_agent);
                yes(all.iter().all(matches) && !none.iter().any(matches))
            }
            Source::Match { file, pattern } => {
                let text = contents(file)?;
                pattern.captures(&text)?.get(1).map(|found| found.as_str().trim().to_owned())
            }
            Source::Section { file, section, key } => sections::parse(&contents(file)?)
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
                Part::Variable(name) => path.push_str(self.value(name, circumstances)?.as_str()),
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
            && Inert::new(variable.kind, text).is_none()
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

impl Source {
    fn new(source: &page::Source, root: &Root) -> Result<Self, String> {
        let all = |patterns: &[String]| -> Result<Vec<Regex>, String> {
            patterns.iter().map(|text| pattern(text)).collect()
        };
        Ok(match source {
            page::Source::Cookie(name) => Self::Cookie(name.clone()),
            page::Source::Query(name) => Self::Query(name.clone()),
            page::Source::UserAgent(agent) => {
                Self::UserAgent { all: all(&agent.all)?, none: all(&agent.none)? }
            }
            page::Source::Match(found) => {
                let pattern = pattern(&found.pattern)?;
                if pattern.captures_len() != 2 {
                    return Err(format!("'{}' must have exactly one group", found.pattern));
                }
                Self::Match { file: text_file(root, &found.file), pattern }
            }
            page::Source::Section(value) => Self::Section {
                file: text_file(root, &value.file),
                section: value.section.clone(),
                key: value.key.clone(),
            },
            page::Source::Modified(path) => Self::Modified(root.path(path)),
            page::Source::Exists(path) => Self::Exists(parts(path)?),
            page::Source::Text(text) => Self::Text(text.clone()),
            page::Source::NodeName => Self::NodeName,
            page::Source::Architecture => Self::Architecture,
            page::Source::User => Self::User,
            page::Source::CsrfToken => Self::CsrfToken,
            page::Source::Debug => Self::Debug,
        })
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .multi_line(true)
        .size_limit(PATTERN_SIZE)
        .build()
        .map_err(|error| format!("'{text}': {error}"))
}

/// Anchored at both ends, whatever the profile says.
fn whole_pattern(text: &str) -> Result<Regex, String> {
    pattern(text)?;
    RegexBuilder::new(&format!(r"\A(?:{text})\z"))
        .size_limit(PATTERN_SIZE)
        .build()
        .map_err(|error| format!("'{text}': {error}"))
}

/// Cuts `/path/{name}.js`.
fn parts(path: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = path;
    while let Some((literal, behind)) = rest.split_once('{') {
        let (name, after) = behind.split_once('}').ok_or_else(|| format!("'{path}': }} is missing"))?;
        parts.extend([Part::Literal(literal.to_owned()), Part::Variable(name.to_owned())]);
        rest = after;
    }
    parts.push(Part::Literal(rest.to_owned()));
    Ok(parts)
}

fn text_file(root: &Root, path: &Path) -> WatchedFile<String> {
    #[expect(clippy::unnecessary_wraps, reason = "a parser of WatchedFile may fail")]
    fn text(bytes: &[u8]) -> Result<String, String> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
    WatchedFile::new(root.path(path), text)
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
