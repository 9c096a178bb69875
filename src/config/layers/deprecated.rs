//! Deprecated keys and values: still read, with a warning that names the new ones.

use super::SettingsLayers;
use super::overridden::same_layer;
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::keys::{self, SettingKey};

/// A key as it was written.
pub(super) struct WrittenName {
    key: &'static SettingKey,
    name: String,
    place: ValueOrigin,
}

impl SettingsLayers {
    /// Warns about a deprecated key or value, and returns the value to use. A layer that gives a key under both of
    /// its names is an error: nothing says which of the two counts.
    pub(super) fn check_names(
        &mut self,
        key: &'static SettingKey,
        name: &str,
        text: String,
        place: ValueOrigin,
    ) -> String {
        let twin = self.names.iter().find(|other| {
            other.key.name == key.name && other.name != name && same_layer(&other.place, &place)
        });
        if let Some(twin) = twin {
            self.problems.push(given_twice(key, name, place.clone(), &twin.place));
        } else if name != key.name {
            self.problems.push(renamed_key(key, name, place.clone()));
        }
        self.names.push(WrittenName { key, name: name.to_owned(), place: place.clone() });
        let Some(new) = keys::renamed_value(key, &text) else { return text };
        let message = format!("'{text}' is deprecated; write '{new}': the next release rejects '{text}'");
        self.problems.push(Diagnostic::warning(place, name, message));
        new.to_owned()
    }
}

/// The warning about a deprecated key.
pub(super) fn renamed_key(key: &SettingKey, name: impl Into<String>, place: ValueOrigin) -> Diagnostic {
    let message = format!("deprecated; write {}: the next release rejects this key", key.name);
    Diagnostic::warning(place, name, message)
}

/// The error of a key that is there under both of its names.
pub(super) fn given_twice(
    key: &SettingKey,
    name: impl Into<String>,
    place: ValueOrigin,
    other: &ValueOrigin,
) -> Diagnostic {
    let deprecated = key.deprecated.unwrap_or_default();
    let message =
        format!("{deprecated} is the deprecated name of {}, given at {other}; remove {deprecated}", key.name);
    Diagnostic::error(place, name, message)
}
