//! `[[listener]]` tables: more places to take connections from, beside that of `[listen]`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::deprecated::{given_twice, renamed_key};
use super::{ResolvedValue, SettingsLayers, TomlSource, plain_text};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::keys;
use crate::config::keys::{LISTENER_KEYS, SettingKey};

pub(super) const NAME: &str = "listener";

/// One table as it was written. Every key in it is one of `keys::LISTENER_KEYS`.
pub struct ListenerTable {
    /// where it begins
    pub origin: ValueOrigin,
    values: Vec<(&'static SettingKey, ResolvedValue)>,
}

impl ListenerTable {
    /// What the table itself says.
    pub fn given(&self, key: &str) -> Option<&ResolvedValue> {
        self.values.iter().find(|(known, _)| known.name == key).map(|(_, found)| found)
    }

    fn has_scope(&self) -> bool {
        self.given("route_scope").is_some_and(|scope| !scope.text.is_empty())
    }

    /// What counts: the table's own value, else that of a setting, else the default.
    pub fn find(&self, key: &str, layers: &SettingsLayers) -> ResolvedValue {
        let default = || {
            let known = LISTENER_KEYS.iter().find(|known| known.name == key);
            let text = known.map_or("", |known| known.default).to_owned();
            ResolvedValue { text, origin: ValueOrigin::Profile }
        };
        let inherited = || keys::inherited(key).map(|setting| layers.find(setting));
        let is_scoped = |found: &ResolvedValue| {
            key == "connections_per_address" && found.origin == ValueOrigin::Profile && self.has_scope()
        };
        let inherited = inherited().map(|found| {
            let text = keys::SCOPED_CONNECTIONS_PER_ADDRESS.to_owned();
            if is_scoped(&found) { ResolvedValue { text, ..found } } else { found }
        });
        self.given(key).cloned().or(inherited).unwrap_or_else(default)
    }
}

/// How a key of the table of that number is called; `[listen]` is number 0.
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

    /// The tables of a weaker file do not count beside those of a stronger one.
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
    ) -> Vec<(&'static SettingKey, ResolvedValue)> {
        let mut values: Vec<(&SettingKey, ResolvedValue)> = Vec::new();
        for (name, value) in table {
            let place = source.place(name.span().start);
            let key = LISTENER_KEYS.iter().find(|key| key.is_named(name.get_ref()));
            match (key, plain_text(value.get_ref())) {
                (None, _) => {
                    let hint = keys::most_like_of_listener(name.get_ref());
                    let hint = hint.map(|key| format!("; did you mean {key}?")).unwrap_or_default();
                    let message = format!("unknown key{hint}");
                    self.problems.push(Diagnostic::error(place, written(number, name.get_ref()), message));
                }
                (Some(key), Some(text)) => {
                    let origin = source.layer.clone().unwrap_or_else(|| place.clone());
                    let shown = written(number, name.get_ref());
                    if let Some((_, twin)) = values.iter().find(|(known, _)| known.name == key.name) {
                        self.problems.push(given_twice(key, shown, place, &twin.origin));
                    } else if *name.get_ref() != key.name {
                        self.problems.push(renamed_key(key, shown, place));
                    }
                    values.push((key, ResolvedValue { text, origin }));
                }
                (Some(key), None) => self.problems.push(Diagnostic::error(
                    place,
                    written(number, key.name),
                    "must be a text, a number, a truth value, or an array of texts",
                )),
            }
        }
        values
    }
}
