//! The manual page nodegate.toml(5): every setting, with the meaning that the table of `docs/reference/profile.md` gives it.

use std::io::{self, Write as _};

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::man;
use crate::config::keys::{KEYS, LISTENER_KEYS, SettingKey, ValueKind};

const TABLE: &str = include_str!("../../../docs/reference/profile.md");
const INTRODUCTION: &str = include_str!("../../../docs/man/nodegate.toml.txt");

pub(crate) fn page() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    // The library cannot write an empty argument, here the date.
    writeln!(page, ".TH nodegate.toml 5 \"\" \"nodegate {}\" nodegate", env!("CARGO_PKG_VERSION"))?;
    let mut head = Roff::new();
    head.control("SH", ["NAME"]);
    head.text([roman("nodegate.toml - settings of nodegate")]);
    head.to_writer(&mut page)?;
    man::notes(INTRODUCTION).to_writer(&mut page)?;
    let mut settings = Roff::new();
    settings.control("SH", ["SETTINGS"]);
    for key in KEYS {
        describe(&mut settings, TABLE, key);
    }
    settings.control("SH", ["LISTENERS"]);
    settings.text([
        roman("Each table "),
        bold("[[listener]]"),
        roman(" is one more place to listen on, with these keys:"),
    ]);
    for key in LISTENER_KEYS {
        describe(&mut settings, listeners(TABLE), key);
    }
    settings.to_writer(&mut page)?;
    man::see_also("nodegate", "1").to_writer(&mut page)?;
    Ok(page)
}

/// The part of the documentation that is about listeners.
fn listeners(text: &str) -> &str {
    let behind = text.split_once("\n### Listeners").map_or("", |(_, behind)| behind);
    behind.split("\n#").next().unwrap_or_default()
}

fn describe(roff: &mut Roff, table: &str, key: &SettingKey) {
    let (default, meaning) = row(table, key.name).unwrap_or_default();
    let legacy = key.legacy.map(|name| format!(" ({name})")).unwrap_or_default();
    roff.control("TP", []);
    roff.text([bold(key.name), roman(legacy), roman(", "), italic(kind(key.kind))]);
    roff.text(inlines(&meaning));
    roff.control("br", []);
    roff.text([roman("Default: "), roman(without_marks(&default)), roman(".")]);
}

fn kind(kind: ValueKind) -> String {
    match kind {
        ValueKind::Text => "text".to_owned(),
        ValueKind::List => "list".to_owned(),
        ValueKind::Bool => "boolean".to_owned(),
        ValueKind::Number(least, most) => format!("{least} to {most}"),
    }
}

/// Default and meaning of a key; several keys may share a row.
fn row(table: &str, key: &str) -> Option<(String, String)> {
    let quoted = format!("`{key}`");
    table.lines().find_map(|line| {
        let mut cells = line.strip_prefix('|')?.split(" | ").map(str::trim);
        cells.next().filter(|keys| keys.split(", ").any(|known| known == quoted))?;
        let (default, meaning) = (cells.nth(1)?, cells.next()?);
        Some((default.to_owned(), meaning.trim_end_matches('|').trim().to_owned()))
    })
}

/// Markdown's code becomes bold, a link its text; a section that is named is one of the same page.
fn inlines(text: &str) -> Vec<Inline> {
    let text = without_links(text).replace('*', "\"");
    let pieces = text.split('`').enumerate();
    pieces.map(|(number, piece)| if number % 2 == 1 { bold(piece) } else { roman(piece) }).collect()
}

fn without_marks(text: &str) -> String {
    without_links(text).replace('`', "")
}

fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[')
        && let Some((name, after)) = link.split_once("](")
        && let Some((_, after)) = after.split_once(')')
    {
        plain.push_str(before);
        plain.push_str(name);
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_row_in_the_documentation() {
        for key in KEYS {
            let (default, meaning) = row(TABLE, key.name).unwrap_or_default();
            assert!(
                !default.is_empty() && !meaning.is_empty(),
                "{} is not in docs/reference/profile.md",
                key.name
            );
        }
        for key in LISTENER_KEYS {
            let (default, meaning) = row(listeners(TABLE), key.name).unwrap_or_default();
            assert!(!default.is_empty() && !meaning.is_empty(), "listener.{} is not described", key.name);
        }
    }

    #[test]
    fn the_documentation_names_no_setting_that_does_not_exist() {
        let settings = TABLE.split("\n## ").find(|part| part.starts_with("Settings")).unwrap_or_default();
        let settings = settings.split("\n### ").next().unwrap_or_default();
        let rows = settings.lines().filter(|line| line.starts_with("| `"));
        let mut count = 0;
        for key in rows.filter_map(|row| row.split(" | ").next()).flat_map(|keys| keys.split(", ")) {
            let key = key.trim_matches(['|', ' ', '`']);
            assert!(KEYS.iter().any(|known| known.name == key), "'{key}' is no setting");
            count += 1;
        }
        assert_eq!(count, KEYS.len());
        let rows = listeners(TABLE).lines().filter(|line| line.starts_with("| `"));
        let keys = rows.filter_map(|row| row.split(" | ").next()).flat_map(|keys| keys.split(", "));
        assert_eq!(keys.count(), LISTENER_KEYS.len());
    }

    #[test]
    fn a_link_becomes_its_text() {
        assert_eq!(without_links("a [b](c.md), [d](e) f"), "a b, d f");
        assert_eq!(without_links("[product] x"), "[product] x");
    }
}
