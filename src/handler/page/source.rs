//! Sources of variables, with compiled patterns and files opened under the root.

use std::path::PathBuf;

use regex::{Regex, RegexBuilder};

use crate::config::page;
use crate::config::root::RootDirectory;
use crate::fs::cached_file::CachedFile;

/// Memory that a compiled pattern of a profile may take.
const MAX_PATTERN_BYTES: usize = 1 << 20;

pub(super) enum OpenedSource {
    Cookie(String),
    Query(String),
    BareQuery { name: String, value: String },
    UserAgent { all: Vec<Regex>, none: Vec<Regex> },
    Match { file: CachedFile<String>, pattern: Regex },
    Section { file: CachedFile<String>, section: String, key: String },
    Modified(PathBuf),
    Exists(Vec<PathPart>),
    Text(String),
    NodeName,
    Architecture,
    User,
    CsrfToken,
    Debug,
}

pub(super) enum PathPart {
    Literal(String),
    Variable(String),
}

impl OpenedSource {
    pub(super) fn new(source: &page::VariableSource, root: &RootDirectory) -> Result<Self, String> {
        let all = |patterns: &[String]| -> Result<Vec<Regex>, String> {
            patterns.iter().map(|text| pattern(text)).collect()
        };
        Ok(match source {
            page::VariableSource::Cookie(name) => Self::Cookie(name.clone()),
            page::VariableSource::Query(name) => Self::Query(name.clone()),
            page::VariableSource::BareQuery { name, value } => {
                Self::BareQuery { name: name.clone(), value: value.clone() }
            }
            page::VariableSource::UserAgent { all: every, none } => {
                Self::UserAgent { all: all(every)?, none: all(none)? }
            }
            page::VariableSource::Match { file, pattern: text } => {
                let pattern = pattern(text)?;
                if pattern.captures_len() != 2 {
                    return Err(format!("'{text}' must have exactly one group"));
                }
                Self::Match { file: CachedFile::of_text(root.path(file)), pattern }
            }
            page::VariableSource::Section { file, section, key } => Self::Section {
                file: CachedFile::of_text(root.path(file)),
                section: section.clone(),
                key: key.clone(),
            },
            page::VariableSource::Modified(path) => Self::Modified(root.path(path)),
            page::VariableSource::Exists(path) => Self::Exists(parts(path)?),
            page::VariableSource::Text(text) => Self::Text(text.clone()),
            page::VariableSource::NodeName => Self::NodeName,
            page::VariableSource::Architecture => Self::Architecture,
            page::VariableSource::User => Self::User,
            page::VariableSource::CsrfToken => Self::CsrfToken,
            page::VariableSource::Debug => Self::Debug,
        })
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .multi_line(true)
        .size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|error| format!("'{text}': {error}"))
}

/// A pattern that is anchored at both ends.
pub(super) fn whole_pattern(text: &str) -> Result<Regex, String> {
    pattern(text)?;
    RegexBuilder::new(&format!(r"\A(?:{text})\z"))
        .size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|error| format!("'{text}': {error}"))
}

/// Splits `/path/{name}.js`.
pub(super) fn parts(path: &str) -> Result<Vec<PathPart>, String> {
    let mut parts = Vec::new();
    let mut rest = path;
    while let Some((literal, behind)) = rest.split_once('{') {
        let (name, after) = behind.split_once('}').ok_or_else(|| format!("'{path}': }} is missing"))?;
        parts.extend([PathPart::Literal(literal.to_owned()), PathPart::Variable(name.to_owned())]);
        rest = after;
    }
    parts.push(PathPart::Literal(rest.to_owned()));
    Ok(parts)
}
