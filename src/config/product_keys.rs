//! Deprecated keys of a profile's `[product]` part: still read, with a warning that names the new ones.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::{Diagnostic, ValueOrigin};

/// A renamed key.
struct RenamedKey {
    /// the table below `[product]` that has it, if it is not `[product]` itself
    table: Option<&'static str>,
    old: &'static str,
    new: &'static str,
}

const RENAMED_KEYS: [RenamedKey; 3] = [
    RenamedKey { table: None, old: "gate", new: "auth" },
    RenamedKey { table: None, old: "class", new: "route_scope" },
    RenamedKey { table: Some("upload"), old: "patience", new: "idle_timeout" },
];

/// Replaces the deprecated keys. Each gets a warning, or an error if the new key is there as well.
pub(super) fn replace_deprecated(
    product: &mut DeValue<'_>,
    origin: impl Fn(Range<usize>) -> ValueOrigin,
) -> Vec<Diagnostic> {
    let Some(product) = table_of(product) else { return Vec::new() };
    RENAMED_KEYS.iter().filter_map(|key| key.replace(product, &origin)).collect()
}

fn table_of<'v, 'i>(value: &'v mut DeValue<'i>) -> Option<&'v mut DeTable<'i>> {
    if let DeValue::Table(table) = value { Some(table) } else { None }
}

impl RenamedKey {
    fn replace(
        &self,
        product: &mut DeTable<'_>,
        origin: impl Fn(Range<usize>) -> ValueOrigin,
    ) -> Option<Diagnostic> {
        let Self { table, old, new } = *self;
        let keys = match table {
            Some(table) => table_of(product.get_mut(table)?.get_mut())?,
            None => product,
        };
        let (mut key, value) = keys.remove_entry(old)?;
        let path = |name| ["product"].into_iter().chain(table).chain([name]).collect::<Vec<_>>().join(".");
        let (place, old, new_path) = (origin(key.span()), path(old), path(new));
        if keys.contains_key(new) {
            let message =
                format!("the deprecated name of {new_path}, which the profile has as well; remove {old}");
            return Some(Diagnostic::error(place, old, message));
        }
        *key.get_mut() = new.into();
        keys.insert(key, value);
        let message = format!("deprecated; write {new_path}: the next release rejects this key");
        Some(Diagnostic::warning(place, old, message))
    }
}
