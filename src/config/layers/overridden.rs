//! Values that a stronger layer overrides with another value. An admin who changes the weaker one sees no effect.

use std::path::Path;

use super::{AssignedValue, SettingsLayers};
use crate::config::diagnostic::{Diagnostic, OVERRIDDEN, ValueOrigin};
use crate::config::setting::{ValueKind, milliseconds};

/// Characters of a value in a message; lists of addresses may be long.
const SHOWN_CHARACTERS: usize = 100;

impl SettingsLayers {
    /// A warning for each such value, at its origin. Values of the profile and of `package_file` are defaults, so they
    /// cause no warning.
    pub fn overridden(&self, package_file: &Path) -> Vec<Diagnostic> {
        let is_default = |origin: &ValueOrigin| match origin {
            ValueOrigin::Profile => true,
            ValueOrigin::File { path, .. } => path == package_file,
            ValueOrigin::Environment(_) | ValueOrigin::CommandLine => false,
        };
        let warn = |AssignedValue { row, value: found, .. }: &AssignedValue| {
            let winner = self.find(row.key);
            let differs = !is_default(&found.origin)
                && !same_layer(&found.origin, &winner.origin)
                && meaning(row.kind, &found.text) != meaning(row.kind, &winner.text);
            differs.then(|| {
                let (weaker, stronger) = (shortened(&found.text), shortened(&winner.text));
                let message = format!("'{weaker}' {OVERRIDDEN} {}, which says '{stronger}'", winner.origin);
                Diagnostic::warning(found.origin.clone(), row.written(&found.origin), message)
            })
        };
        self.values.iter().filter_map(warn).collect()
    }
}

/// Within a layer the last value wins, as in a shell and on a command line.
pub(super) fn same_layer(one: &ValueOrigin, other: &ValueOrigin) -> bool {
    match (one, other) {
        (ValueOrigin::File { path: one, .. }, ValueOrigin::File { path: other, .. }) => one == other,
        (ValueOrigin::Environment(_), ValueOrigin::Environment(_))
        | (ValueOrigin::CommandLine, ValueOrigin::CommandLine)
        | (ValueOrigin::Profile, ValueOrigin::Profile) => true,
        _ => false,
    }
}

/// The common form of different spellings of a value.
fn meaning(kind: ValueKind, text: &str) -> String {
    let text = text.trim();
    match kind {
        ValueKind::Bool if text == "1" => "true".to_owned(),
        ValueKind::Bool if text == "0" => "false".to_owned(),
        ValueKind::List => {
            let entries: Vec<_> = text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
            entries.join(",")
        }
        ValueKind::Number(..) => {
            text.parse::<u64>().map_or_else(|_| text.to_owned(), |number| number.to_string())
        }
        ValueKind::Milliseconds(..) => {
            milliseconds(text).map_or_else(|| text.to_owned(), |number| number.to_string())
        }
        ValueKind::Bool | ValueKind::Text => text.to_owned(),
    }
}

fn shortened(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= SHOWN_CHARACTERS {
        return flat;
    }
    flat.chars().take(SHOWN_CHARACTERS).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_value_mean_the_same() {
        let same = [
            (ValueKind::Bool, "1", "true"),
            (ValueKind::Bool, "0", " false"),
            (ValueKind::List, "10/8, 11/8,", "10/8,11/8"),
            (ValueKind::Number(0, 9), "07", "7"),
            (ValueKind::Milliseconds(0, 9), "0.50", "0.5"),
            (ValueKind::Text, "x ", "x"),
        ];
        for (kind, one, other) in same {
            assert_eq!(meaning(kind, one), meaning(kind, other), "{one} {other}");
        }
        assert_ne!(meaning(ValueKind::List, "10/8,11/8"), meaning(ValueKind::List, "11/8,10/8"));
        assert_ne!(meaning(ValueKind::Text, "1"), meaning(ValueKind::Text, "true"));
    }

    #[test]
    fn long_values_are_shortened_to_one_line() {
        assert_eq!(shortened("a\n b"), "a b");
        let long = shortened(&"10.0.0.0/8,".repeat(1000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (SHOWN_CHARACTERS + 1, true));
    }
}
