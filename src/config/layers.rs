//! The layers of settings, weakest first: defaults and profile, a package's file, the product's own file, the site's
//! file, environment, command line. The strongest value of a key is in effect.

mod deprecated;
mod hints;
mod legacy;
mod listeners;
mod overridden;
mod worker_counts;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::setting::Setting;
use super::settings::{self, Settings};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
pub use listeners::{ListenerTable, written};

const NO_VALUE: &str = "must be a text, a number, a truth value, or an array of texts";

/// All layers, and the problems of reading them.
#[derive(Default)]
pub struct SettingsLayers {
    /// weakest first; the defaults are not among them
    values: Vec<AssignedValue>,
    /// the `[[listener]]` tables of the strongest file that has any
    pub listeners: Vec<ListenerTable>,
    pub problems: Vec<Diagnostic>,
}

/// The value in effect, as text, and its layer.
#[derive(Clone, Debug, Default)]
pub struct ResolvedValue {
    pub text: String,
    pub origin: ValueOrigin,
}

/// A value as its layer has it.
struct AssignedValue {
    row: &'static Setting<Settings>,
    /// the key or its deprecated name
    name: String,
    /// where it was read; for a profile its file
    place: ValueOrigin,
    value: ResolvedValue,
}

impl SettingsLayers {
    /// The settings of the profile.
    pub fn new(profile: &DeTable<'_>, profile_text: &str, profile_path: Option<&Path>) -> Self {
        let mut layers = Self::default();
        let path = profile_path.unwrap_or(Path::new("profile"));
        let layer = Some(ValueOrigin::Profile);
        layers.table(profile, &[], &TomlSource { path, text: profile_text, layer });
        layers
    }

    /// Adds a value if its key is known.
    fn assign(&mut self, name: &str, text: Option<String>, place: ValueOrigin, origin: ValueOrigin) {
        match (find(name), text) {
            (None, _) => self.problems.push(unknown_key(place, name)),
            (Some(_), None) => self.problems.push(Diagnostic::error(place, name, NO_VALUE)),
            (Some(row), Some(text)) => {
                let text = self.replace_deprecated(row, name, text, &place);
                let value = ResolvedValue { text, origin };
                self.values.push(AssignedValue { row, name: name.to_owned(), place, value });
            }
        }
    }

    /// `/etc/nodegate/NAME.toml` and the like; may be missing.
    pub fn settings_file(&mut self, path: &Path) {
        let Some(text) = self.read(path).and_then(|bytes| self.utf8(path, bytes)) else { return };
        match DeTable::parse(&text) {
            Ok(table) => {
                self.table(table.get_ref(), &[], &TomlSource { path, text: &text, layer: None });
            }
            Err(error) => {
                let line = error.span().map(|span| line_at(&text, span.start));
                let origin = ValueOrigin::File { path: path.to_path_buf(), line };
                let message = format!("{}{}", error.message(), quotes_hint(&text, &error));
                self.problems.push(Diagnostic::error(origin, "", message));
            }
        }
    }

    fn table(&mut self, table: &DeTable<'_>, parents: &[&str], source: &TomlSource<'_>) {
        for (name, value) in table {
            let mut names = parents.to_vec();
            names.push(name.get_ref());
            if parents.is_empty() && *name.get_ref() == listeners::NAME {
                self.read_listeners(value, source);
            } else if let DeValue::Table(inner) = value.get_ref() {
                self.table(inner, &names, source);
            } else {
                let place = source.place(name.span().start);
                let origin = source.layer.clone().unwrap_or_else(|| place.clone());
                self.assign(&names.join("."), plain_text(value.get_ref()), place, origin);
            }
        }
    }

    /// `NODEGATE_LISTEN__PORT=8007` and the like.
    pub fn environment(&mut self, variables: impl Iterator<Item = (OsString, OsString)>) {
        for (name, value) in variables {
            let name = name.to_string_lossy();
            let Some(rest) = name.strip_prefix("NODEGATE_") else { continue };
            let dotted = rest.to_lowercase().replace("__", ".");
            let origin = ValueOrigin::Environment(name.clone().into_owned());
            match value.into_string() {
                Err(_) if find(&dotted).is_some() => {
                    self.problems.push(Diagnostic::error(origin, dotted, "is not UTF-8 text"));
                }
                value => self.assign(&dotted, value.ok(), origin.clone(), origin),
            }
        }
    }

    /// `--set KEY=VALUE`.
    pub fn command_line(&mut self, sets: &[String]) {
        let origin = || ValueOrigin::CommandLine;
        for set in sets {
            match set.split_once('=') {
                Some((name, value)) => self.assign(name.trim(), Some(value.to_owned()), origin(), origin()),
                None if find(set.trim()).is_some() => {
                    self.problems.push(Diagnostic::error(origin(), set, "write KEY=VALUE"));
                }
                None => self.problems.push(unknown_key(origin(), set)),
            }
        }
    }

    /// The value of a key that is in effect: the strongest one, or the default.
    pub fn find(&self, key: &str) -> ResolvedValue {
        let given = self.values.iter().rev().find(|value| value.row.key == key).map(|value| &value.value);
        given.cloned().unwrap_or_else(|| {
            let default = find(key).map_or("", |row| row.default).to_owned();
            ResolvedValue { text: default, origin: ValueOrigin::Profile }
        })
    }

    /// Problems with settings that the profile gives name their lines.
    pub(super) fn name_lines(&self, problems: &mut [Diagnostic]) {
        for problem in problems.iter_mut().filter(|problem| problem.origin == ValueOrigin::Profile) {
            let of_profile = |value: &&AssignedValue| {
                value.row.key == problem.key && value.value.origin == ValueOrigin::Profile
            };
            if let Some(given) = self.values.iter().find(of_profile) {
                problem.origin = given.place.clone();
            }
        }
    }

    fn read(&mut self, path: &Path) -> Option<Vec<u8>> {
        match std::fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                self.problems.push(Diagnostic::file_error(path, format!("cannot be read: {error}")));
                None
            }
        }
    }

    fn utf8(&mut self, path: &Path, bytes: Vec<u8>) -> Option<String> {
        String::from_utf8(bytes)
            .map_err(|_| self.problems.push(Diagnostic::file_error(path, "is not UTF-8 text")))
            .ok()
    }
}

/// A TOML text and the layer of its values; `None` makes the origin of each value its layer.
struct TomlSource<'a> {
    path: &'a Path,
    text: &'a str,
    layer: Option<ValueOrigin>,
}

impl TomlSource<'_> {
    fn place(&self, offset: usize) -> ValueOrigin {
        ValueOrigin::File { path: PathBuf::from(self.path), line: Some(line_at(self.text, offset)) }
    }
}

/// A hint for `key = 10.0.0.1`. It does not show the value, which may be a secret.
fn quotes_hint(text: &str, error: &toml::de::Error) -> &'static str {
    let line = error.span().and_then(|span| text.lines().nth(line_at(text, span.start) - 1));
    let value = line.and_then(|line| line.split_once('=')).map(|(_, value)| value.trim());
    let is_bare = value.is_some_and(|value| value.starts_with(char::is_alphanumeric));
    if is_bare { "; if the value is a text, write it in quotes" } else { "" }
}

/// 1-based line of a byte offset.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The setting with this key, or with this deprecated key.
fn find(name: &str) -> Option<&'static Setting<Settings>> {
    settings::rows().find(|row| row.is_named(name))
}

/// The key as its layer spells it: the product's own file has other names.
pub(super) fn shown(key: &str, origin: &ValueOrigin) -> String {
    find(key).map_or_else(|| key.to_owned(), |row| row.written(origin))
}

/// The setting with this name in the product's own file.
fn find_legacy(name: &str) -> Option<&'static Setting<Settings>> {
    settings::rows().find(|row| row.legacy == Some(name))
}

fn unknown_key(origin: ValueOrigin, name: &str) -> Diagnostic {
    let meant = hints::likely_keys(name).join(" or ");
    let hint = if meant.is_empty() { meant } else { format!("; did you mean {meant}?") };
    Diagnostic::error(origin, name, format!("unknown key{hint}"))
}

/// The value as the text that `--set` takes.
fn plain_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| plain_text(item.get_ref())).collect();
            texts.map(|texts| texts.join(","))
        }
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}
