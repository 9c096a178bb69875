//! `[[listener]]` tables: listeners besides that of `[listen]`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::deprecated::deprecated_key;
use super::hints::likely_listener_key;
use super::{NO_VALUE, ResolvedValue, SettingsLayers, TomlSource, plain_text};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::setting::Setting;
use crate::config::settings::{LISTENER_ROWS, ListenerSettings, SCOPED_CONNECTIONS_PER_ADDRESS};

pub(super) const NAME: &str = "listener";

/// One table as it was read.
pub struct ListenerTable {
    /// where it begins
    pub origin: ValueOrigin,
    values: Vec<(&'static Setting<ListenerSettings>, ResolvedValue)>,
}

impl ListenerTable {
    /// The table's own value.
    pub fn given(&self, key: &str) -> Option<&ResolvedValue> {
        self.values.iter().find(|(row, _)| row.key == key).map(|(_, found)| found)
    }

    /// All values of its own, by key.
    pub fn all_given(&self) -> impl Iterator<Item = (&'static str, &ResolvedValue)> {
        self.values.iter().map(|(row, found)| (row.key, found))
    }

    /// The value in effect: that of the table, that of the inherited setting, or the default.
    pub fn find(&self, row: &Setting<ListenerSettings>, layers: &SettingsLayers) -> ResolvedValue {
        if let Some(given) = self.given(row.key) {
            return given.clone();
        }
        let inherited = row.inherits.map(|setting| layers.find(setting));
        let found = inherited
            .unwrap_or_else(|| ResolvedValue { text: row.default.to_owned(), origin: ValueOrigin::Profile });
        let is_scoped = self.given("route_scope").is_some_and(|scope| !scope.text.is_empty());
        if is_scoped && row.key == "connections_per_address" && found.origin == ValueOrigin::Profile {
            return ResolvedValue { text: SCOPED_CONNECTIONS_PER_ADDRESS.to_owned(), ..found };
        }
        found
    }
}

/// The full name of a key of the table with that number; `[listen]` is number 0.
pub fn written(number: usize, key: &str) -> String {
    if key.is_empty() { format!("{NAME}[{number}]") } else { format!("{NAME}[{number}].{key}") }
}

impl SettingsLayers {
    pub(super) fn read_listeners(&mut self, value: &Spanned<DeValue<'_>>, source: &TomlSource<'_>) {
        let place = source.place(value.span().start);
        let DeValue::Array(items) = value.get_ref() else {
            self.problems.push(Diagnostic::error(place, NAME, "write [[listener]], once for each"));
            return;
        };
        self.drop_weaker_listeners(&place);
        for (index, item) in items.iter().enumerate() {
            let number = index + 1;
            let place = source.place(item.span().start);
            if let DeValue::Table(table) = item.get_ref() {
                let values = self.listener_values(table, number, source);
                let origin = source.layer.clone().unwrap_or(place);
                self.listeners.push(ListenerTable { origin, values });
            } else {
                let message = "must be a table: write [[listener]], then its keys";
                self.problems.push(Diagnostic::error(place, written(number, ""), message));
            }
        }
    }

    /// The tables of a stronger file replace those of a weaker one.
    fn drop_weaker_listeners(&mut self, stronger: &ValueOrigin) {
        let weaker = self.listeners.first().map(|table| table.origin.clone());
        self.listeners.clear();
        if let Some(weaker) = weaker.filter(|weaker| *weaker != ValueOrigin::Profile) {
            let message =
                format!("the [[listener]] tables of this file are overridden by those of {stronger}");
            self.problems.push(Diagnostic::warning(weaker, NAME, message));
        }
    }

    fn listener_values(
        &mut self,
        table: &DeTable<'_>,
        number: usize,
        source: &TomlSource<'_>,
    ) -> Vec<(&'static Setting<ListenerSettings>, ResolvedValue)> {
        let mut values: Vec<(&Setting<ListenerSettings>, ResolvedValue)> = Vec::new();
        for (name, value) in table {
            let name_text: &str = name.get_ref();
            let place = source.place(name.span().start);
            let shown = written(number, name_text);
            let Some(row) = LISTENER_ROWS.iter().find(|row| row.is_named(name_text)) else {
                let hint = likely_listener_key(name_text);
                let hint = hint.map(|key| format!("; did you mean {key}?")).unwrap_or_default();
                self.problems.push(Diagnostic::error(place, shown, format!("unknown key{hint}")));
                continue;
            };
            let Some(text) = plain_text(value.get_ref()) else {
                self.problems.push(Diagnostic::error(place, shown, NO_VALUE));
                continue;
            };
            let twin = values.iter().find(|(other, _)| other.key == row.key).map(|(_, twin)| &twin.origin);
            self.problems.extend(deprecated_key(row, name_text, &shown, &place, twin));
            let origin = source.layer.clone().unwrap_or(place);
            values.push((row, ResolvedValue { text, origin }));
        }
        values
    }
}
