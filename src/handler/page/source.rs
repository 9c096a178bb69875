//! Sources of variables, with patterns compiled and files opened under the root.

use std::path::{Path, PathBuf};

use regex::{Regex, RegexBuilder};

use crate::config::page;
use crate::config::page::BareQuery;
use crate::config::root::Root;
use crate::fs::cached_file::WatchedFile;

/// Memory that a compiled pattern of a profile may take.
const PATTERN_SIZE: usize = 1 << 20;

/// As in the profile, with patterns compiled and files opened under the root.
pub(super) enum Source {
    Cookie(String),
    Query(String),
    BareQuery(BareQuery),
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
pub(super) enum Part {
    Literal(String),
    Variable(String),
}

impl Source {
    pub(super) fn new(source: &page::Source, root: &Root) -> Result<Self, String> {
        let all = |patterns: &[String]| -> Result<Vec<Regex>, String> {
            patterns.iter().map(|text| pattern(text)).collect()
        };
        Ok(match source {
            page::Source::Cookie(name) => Self::Cookie(name.clone()),
            page::Source::Query(name) => Self::Query(name.clone()),
            page::Source::BareQuery(bare) => Self::BareQuery(bare.clone()),
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
pub(super) fn whole_pattern(text: &str) -> Result<Regex, String> {
    pattern(text)?;
    RegexBuilder::new(&format!(r"\A(?:{text})\z"))
        .size_limit(PATTERN_SIZE)
        .build()
        .map_err(|error| format!("'{text}': {error}"))
}

/// Cuts `/path/{name}.js`.
pub(super) fn parts(path: &str) -> Result<Vec<Part>, String> {
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
