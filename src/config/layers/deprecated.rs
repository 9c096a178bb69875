//! Deprecated keys and values: still read, with a warning that names the new ones.

use super::SettingsLayers;
use super::overridden::same_layer;
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::setting::{self, Setting};
use crate::config::settings::Settings;

impl SettingsLayers {
    /// Warns about a deprecated key or value, and returns the value to use. A layer with both names of a key is an
    /// error, because it is not clear which of the two is meant.
    pub(super) fn replace_deprecated(
        &mut self,
        row: &'static Setting<Settings>,
        name: &str,
        text: String,
        place: &ValueOrigin,
    ) -> String {
        let twin = self
            .values
            .iter()
            .find(|other| other.row.key == row.key && other.name != name && same_layer(&other.place, place));
        let twin = twin.map(|twin| twin.place.clone());
        self.problems.extend(deprecated_key(row, name, name, place, twin.as_ref()));
        let Some(new) = setting::renamed_value(row.key, &text) else { return text };
        let message = format!("'{text}' is deprecated; write '{new}': the next release rejects '{text}'");
        self.problems.push(Diagnostic::warning(place.clone(), name, message));
        new.to_owned()
    }
}

/// An error if the table has the key under its other name as well, a warning for the deprecated name. `shown` is
/// the name with its table.
pub(super) fn deprecated_key<T>(
    row: &Setting<T>,
    name: &str,
    shown: &str,
    place: &ValueOrigin,
    twin: Option<&ValueOrigin>,
) -> Option<Diagnostic> {
    let (new, old) = (row.key, row.deprecated.unwrap_or_default());
    if let Some(twin) = twin {
        let message = format!("{old} is the deprecated name of {new}, given at {twin}; remove {old}");
        return Some(Diagnostic::error(place.clone(), shown, message));
    }
    let message = format!("deprecated; write {new}: the next release rejects this key");
    (name != new).then(|| Diagnostic::warning(place.clone(), shown, message))
}
