//! The keys of a profile's `[product]` part. They are verified before serde reads the part, because serde ends at the
//! first mistake: a profile gets all missing and all unknown keys at once, each with its purpose.

mod login_tables;
mod tables;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::setting::most_like_name;
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use tables::PRODUCT;

/// A table of the part, and its keys.
struct TableKeys {
    /// the header of the table; empty for a table that is written inline
    header: &'static str,
    keys: &'static [ProductKey],
}

struct ProductKey {
    name: &'static str,
    need: Need,
    value: ValueShape,
    /// the meaning, as in `docs/reference/profile.md`
    purpose: &'static str,
}

/// Whether a profile needs a key of a table that it has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Need {
    Always,
    /// with this `protocol`
    Protocol(&'static str),
    /// beside this other key
    With(&'static str),
    /// in place of this other key
    Without(&'static str),
    Never,
}

enum ValueShape {
    /// texts, numbers, lists, or tables that serde verifies
    Plain,
    Table(&'static TableKeys),
    /// `[[table]]`, or an array of inline tables
    Tables(&'static TableKeys),
    /// a table for each name
    Named(&'static TableKeys),
}

impl ProductKey {
    const fn new(name: &'static str, need: Need, value: ValueShape, purpose: &'static str) -> Self {
        Self { name, need, value, purpose }
    }

    const fn needed(name: &'static str, purpose: &'static str) -> Self {
        Self::new(name, Need::Always, ValueShape::Plain, purpose)
    }

    const fn optional(name: &'static str, purpose: &'static str) -> Self {
        Self::new(name, Need::Never, ValueShape::Plain, purpose)
    }

    /// The names of the keys that a table of this key needs.
    fn needed_inside(&self) -> String {
        let (ValueShape::Table(table) | ValueShape::Tables(table) | ValueShape::Named(table)) = self.value
        else {
            return String::new();
        };
        format!("; it needs {}", needed_of(table))
    }
}

/// The names of the keys that every part needs.
pub(super) fn needed() -> String {
    needed_of(&PRODUCT)
}

fn needed_of(table: &TableKeys) -> String {
    let needed = table.keys.iter().filter(|key| key.need == Need::Always).map(|key| key.name);
    needed.collect::<Vec<_>>().join(", ")
}

/// The missing and the unknown keys of the part. `origin` is the place of a byte of the profile.
pub(super) fn verify(
    product: &Spanned<DeValue<'_>>,
    origin: &dyn Fn(usize) -> ValueOrigin,
) -> Vec<Diagnostic> {
    let mut verifier = Verifier { origin, protocol: None, problems: Vec::new() };
    if let DeValue::Table(table) = product.get_ref() {
        verifier.protocol = table.get("protocol").and_then(|value| value.get_ref().as_str());
        verifier.table(table, &PRODUCT, "product", product.span().start);
    }
    verifier.problems
}

struct Verifier<'a> {
    origin: &'a dyn Fn(usize) -> ValueOrigin,
    protocol: Option<&'a str>,
    problems: Vec<Diagnostic>,
}

impl Verifier<'_> {
    fn table(&mut self, table: &DeTable<'_>, known: &TableKeys, path: &str, start: usize) {
        for key in known.keys {
            if !self.is_missing(key, table) {
                continue;
            }
            let message = format!("is missing: {}{}", key.purpose.replace('`', "'"), key.needed_inside());
            self.add(start, format!("{path}.{}", key.name), message);
        }
        for (name, value) in table {
            let written: &str = name.get_ref();
            let path_of_key = format!("{path}.{written}");
            match known.keys.iter().find(|key| key.name == written) {
                Some(key) => self.value(value, &key.value, &path_of_key),
                None => self.add(name.span().start, path_of_key, unknown_key(known, path, written)),
            }
        }
    }

    fn is_missing(&self, key: &ProductKey, table: &DeTable<'_>) -> bool {
        let is_needed = match key.need {
            Need::Always => true,
            Need::Protocol(protocol) => self.protocol == Some(protocol),
            Need::With(other) => table.contains_key(other),
            Need::Without(other) => !table.contains_key(other),
            Need::Never => false,
        };
        is_needed && !table.contains_key(key.name)
    }

    /// A value of another shape is left to serde, which names the shape.
    fn value(&mut self, value: &Spanned<DeValue<'_>>, shape: &ValueShape, path: &str) {
        match (shape, value.get_ref()) {
            (ValueShape::Table(known), DeValue::Table(table)) => {
                self.table(table, known, path, value.span().start);
            }
            (ValueShape::Tables(known), DeValue::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    if let DeValue::Table(table) = item.get_ref() {
                        self.table(table, known, &format!("{path}[{}]", index + 1), item.span().start);
                    }
                }
            }
            (ValueShape::Named(known), DeValue::Table(names)) => {
                for (name, item) in names {
                    if let DeValue::Table(table) = item.get_ref() {
                        self.table(table, known, &format!("{path}.{}", name.get_ref()), item.span().start);
                    }
                }
            }
            _ => (),
        }
    }

    fn add(&mut self, place: usize, key: String, message: String) {
        self.problems.push(Diagnostic::error((self.origin)(place), key, message));
    }
}

fn unknown_key(known: &TableKeys, path: &str, written: &str) -> String {
    let names = || known.keys.iter().map(|key| key.name);
    if let Some(meant) = most_like_name(names(), &written.to_lowercase()) {
        return format!("unknown key; did you mean {path}.{meant}?");
    }
    let place = if known.header.is_empty() { path } else { known.header };
    format!("unknown key; the keys of {place} are {}", names().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
