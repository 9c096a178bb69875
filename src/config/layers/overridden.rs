//! Values that a stronger layer overrides with another value. An admin who changes the weaker one sees no effect.

use super::{Found, Layers};
use crate::config::diagnostic::{Origin, Problem};
use crate::config::keys;
use crate::config::keys::{Key, Kind};

/// Characters of a value in a message; lists of addresses may be long.
const SHOWN_CHARACTERS: usize = 100;

impl Layers {
    /// A warning for each such value, at its own place. The profile's values are defaults and not among them.
    pub fn overridden(&self) -> Vec<Problem> {
        let warn = |(key, found): &(&'static Key, Found)| {
            let winner = self.find(key.name);
            let differs = !same_layer(&found.origin, &winner.origin)
                && meaning(key.kind, &found.text) != meaning(key.kind, &winner.text);
            differs.then(|| {
                let (weaker, stronger) = (shortened(&found.text), shortened(&winner.text));
                let message =
                    format!("'{weaker}' is overridden by {}, which says '{stronger}'", winner.origin);
                Problem::warning(found.origin.clone(), keys::written(key.name, &found.origin), message)
            })
        };
        self.given.iter().filter_map(warn).collect()
    }
}

/// Within a layer the last value counts, as in a shell and on a command line.
pub(super) fn same_layer(one: &Origin, other: &Origin) -> bool {
    match (one, other) {
        (Origin::File { path: one, .. }, Origin::File { path: other, .. }) => one == other,
        (Origin::Environment(_), Origin::Environment(_))
        | (Origin::CommandLine, Origin::CommandLine)
        | (Origin::Profile, Origin::Profile) => true,
        _ => false,
    }
}

/// What two spellings of the same value have in common.
fn meaning(kind: Kind, text: &str) -> String {
    let text = text.trim();
    match kind {
        Kind::Bool if text == "1" => "true".to_owned(),
        Kind::Bool if text == "0" => "false".to_owned(),
        Kind::List => {
            let entries: Vec<_> = text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
            entries.join(",")
        }
        Kind::Number(..) => text.parse::<u64>().map_or_else(|_| text.to_owned(), |number| number.to_string()),
        Kind::Bool | Kind::Text => text.to_owned(),
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
            (Kind::Bool, "1", "true"),
            (Kind::Bool, "0", " false"),
            (Kind::List, "10/8, 11/8,", "10/8,11/8"),
            (Kind::Number(0, 9), "07", "7"),
            (Kind::Text, "x ", "x"),
        ];
        for (kind, one, other) in same {
            assert_eq!(meaning(kind, one), meaning(kind, other), "{one} {other}");
        }
        assert_ne!(meaning(Kind::List, "10/8,11/8"), meaning(Kind::List, "11/8,10/8"));
        assert_ne!(meaning(Kind::Text, "1"), meaning(Kind::Text, "true"));
    }

    #[test]
    fn long_values_are_shortened_to_one_line() {
        assert_eq!(shortened("a\n b"), "a b");
        let long = shortened(&"10.0.0.0/8,".repeat(1000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (SHOWN_CHARACTERS + 1, true));
    }
}
