//! The layers of settings, weakest first: defaults and profile, a package's file, the product's own file, the site's
//! file, environment, command line. Each single value is a figment provider of its own, so that its metadata tells file and line.

mod deprecated;
mod legacy;
mod listeners;
mod overridden;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};
use toml::de::{DeTable, DeValue};

use super::keys::{self, KEYS, SettingKey};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use deprecated::WrittenName;
pub use listeners::{ListenerTable, written};

/// All layers merged, and what was wrong with reading them.
pub struct SettingsLayers {
    figment: Figment,
    /// every value above the profile, in the order of the layers
    given: Vec<(&'static SettingKey, ResolvedValue)>,
    /// each key that was written, by the name and the place it was written with
    names: Vec<WrittenName>,
    /// the `[[listener]]` tables of the strongest file that has any
    pub listeners: Vec<ListenerTable>,
    pub problems: Vec<Diagnostic>,
}

/// A value that won, as text, and the layer that gave it.
#[derive(Clone, Debug)]
pub struct ResolvedValue {
    pub text: String,
    pub origin: ValueOrigin,
}

/// One value from one place.
struct SingleValue {
    key: &'static str,
    text: String,
    origin: ValueOrigin,
}

impl Provider for SingleValue {
    fn metadata(&self) -> Metadata {
        match &self.origin {
            ValueOrigin::Profile => Metadata::named("profile"),
            ValueOrigin::CommandLine => Metadata::named("--set"),
            ValueOrigin::Environment(name) => Metadata::named(format!("environment {name}")),
            ValueOrigin::File { path, line } => {
                Metadata::from(line.map_or(String::new(), |line| line.to_string()), path.as_path())
            }
        }
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(self.key, Value::from(self.text.as_str()));
        Ok(nested.into_dict().map(|dict| Profile::Default.collect(dict)).unwrap_or_default())
    }
}

fn origin_of(metadata: &Metadata) -> ValueOrigin {
    if let Some(Source::File(path)) = &metadata.source {
        return ValueOrigin::File { path: path.clone(), line: metadata.name.parse().ok() };
    }
    match metadata.name.strip_prefix("environment ") {
        Some(name) => ValueOrigin::Environment(name.to_owned()),
        None if metadata.name == "--set" => ValueOrigin::CommandLine,
        None => ValueOrigin::Profile,
    }
}

impl SettingsLayers {
    /// The defaults, and the settings of the profile on top of them.
    pub fn new(profile: &DeTable<'_>, profile_text: &str, profile_path: Option<&Path>) -> Self {
        let mut layers = Self {
            figment: Figment::new(),
            given: Vec::new(),
            names: Vec::new(),
            listeners: Vec::new(),
            problems: Vec::new(),
        };
        for key in KEYS {
            layers.merge(key, key.default.to_owned(), ValueOrigin::Profile);
        }
        let file = profile_path.map_or_else(|| PathBuf::from("profile"), Path::to_path_buf);
        layers.table(
            profile,
            &[],
            &TomlSource { path: &file, text: profile_text, layer: Some(ValueOrigin::Profile) },
        );
        layers
    }

    fn merge(&mut self, key: &'static SettingKey, text: String, origin: ValueOrigin) {
        if origin != ValueOrigin::Profile {
            self.given.push((key, ResolvedValue { text: text.clone(), origin: origin.clone() }));
        }
        let single = SingleValue { key: key.name, text, origin };
        self.figment = std::mem::take(&mut self.figment).merge(single);
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
                self.problems.push(Diagnostic::error(origin, "", error.message()));
            }
        }
    }

    fn table(&mut self, table: &DeTable<'_>, parents: &[&str], source: &TomlSource<'_>) {
        for (name, value) in table {
            let mut names = parents.to_vec();
            names.push(name.get_ref());
            if parents.is_empty() && *name.get_ref() == listeners::NAME {
                self.read_listeners(value, source);
                continue;
            }
            if let DeValue::Table(inner) = value.get_ref() {
                self.table(inner, &names, source);
                continue;
            }
            let dotted = names.join(".");
            let place = source.place(name.span().start);
            match (keys::find(&dotted), plain_text(value.get_ref())) {
                (None, _) => self.problems.push(unknown_key(place, &dotted)),
                (Some(key), Some(text)) => {
                    let origin = source.layer.clone().unwrap_or_else(|| place.clone());
                    let text = self.check_names(key, &dotted, text, place);
                    self.merge(key, text, origin);
                }
                (Some(_), None) => self.problems.push(Diagnostic::error(
                    place,
                    dotted,
                    "must be a text, a number, a truth value, or an array of texts",
                )),
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
            match (keys::find(&dotted), value.into_string()) {
                (Some(key), Ok(value)) => {
                    let value = self.check_names(key, &dotted, value, origin.clone());
                    self.merge(key, value, origin);
                }
                (Some(_), Err(_)) => {
                    self.problems.push(Diagnostic::error(origin, dotted, "is not UTF-8 text"));
                }
                (None, _) => self.problems.push(unknown_key(origin, &dotted)),
            }
        }
    }

    /// `--set KEY=VALUE`.
    pub fn command_line(&mut self, sets: &[String]) {
        for set in sets {
            let (name, value) = set.split_once('=').unwrap_or((set, ""));
            match keys::find(name.trim()) {
                Some(key) if set.contains('=') => {
                    let origin = ValueOrigin::CommandLine;
                    let value = self.check_names(key, name.trim(), value.to_owned(), origin.clone());
                    self.merge(key, value, origin);
                }
                Some(_) => {
                    self.problems.push(Diagnostic::error(ValueOrigin::CommandLine, name, "write KEY=VALUE"));
                }
                None => self.problems.push(unknown_key(ValueOrigin::CommandLine, name)),
            }
        }
    }

    /// The winning value of a key. Every key of `KEYS` has one, since the defaults are the lowest layer.
    pub fn find(&self, key: &str) -> ResolvedValue {
        let value = self.figment.find_value(key).ok();
        let origin = value
            .as_ref()
            .and_then(|value| self.figment.get_metadata(value.tag()))
            .map_or(ValueOrigin::Profile, origin_of);
        let text = value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        ResolvedValue { text, origin }
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

/// A TOML text being walked: `layer` overrides what each value reports as its origin.
struct TomlSource<'a> {
    path: &'a Path,
    text: &'a str,
    layer: Option<ValueOrigin>,
}

impl TomlSource<'_> {
    fn place(&self, offset: usize) -> ValueOrigin {
        ValueOrigin::File { path: self.path.to_path_buf(), line: Some(line_at(self.text, offset)) }
    }
}

/// 1-based line of a byte offset.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn unknown_key(origin: ValueOrigin, name: &str) -> Diagnostic {
    let hint = keys::most_like(name).map(|key| format!("; did you mean {key}?")).unwrap_or_default();
    Diagnostic::error(origin, name, format!("unknown key{hint}"))
}

/// The value as the text that `--set` would take: the same in every layer.
fn plain_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| plain_text(item.get_ref())).collect();
            texts.map(|texts| texts.join(","))
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}
