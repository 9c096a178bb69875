//! The manual page nodegate.toml(5): every setting from its row, with the section that `docs/reference/settings.md`
//! adds.

use std::io::{self, Write as _};

use clap_mangen::roff::{Roff, bold, italic, roman};

use super::man;
use super::markup::marked_up;
use crate::config::setting::{self, Setting, ValueKind};
use crate::config::settings::{self, LISTENER_ROWS};

const DOCUMENT: &str = include_str!("../../../docs/reference/settings.md");
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
    for row in settings::rows() {
        describe(&mut settings, settings_of(DOCUMENT), row);
    }
    settings.control("SH", ["LISTENERS"]);
    settings.text([roman("Each table "), bold("[[listener]]"), roman(" adds a listener, with these keys:")]);
    for row in LISTENER_ROWS {
        describe(&mut settings, listeners(DOCUMENT), row);
    }
    settings.to_writer(&mut page)?;
    man::see_also("nodegate", "1").to_writer(&mut page)?;
    Ok(page)
}

const LISTENERS: &str = "\n## Listeners\n";

/// The part of the documentation before the keys of listeners.
fn settings_of(document: &str) -> &str {
    document.split(LISTENERS).next().unwrap_or_default()
}

/// The part of the documentation that is about listeners.
fn listeners(document: &str) -> &str {
    let behind = document.split_once(LISTENERS).map_or("", |(_, behind)| behind);
    behind.split("\n## ").next().unwrap_or_default()
}

fn describe<T>(roff: &mut Roff, part: &str, row: &Setting<T>) {
    let legacy = row.legacy.map(|name| format!(" ({name})")).unwrap_or_default();
    roff.control("TP", []);
    roff.text([bold(row.key), roman(legacy), roman(", "), italic(kind(row.kind))]);
    roff.text(marked_up(row.documentation));
    roff.control("br", []);
    roff.text([roman(format!("Default: {}.", default(row)))]);
    for paragraph in section(part, row.key) {
        // Keeps the indentation of the setting.
        roff.control("IP", []);
        roff.text(marked_up(&paragraph));
    }
}

fn default<T>(row: &Setting<T>) -> String {
    match row.inherits {
        Some(setting) => format!("that of {setting}"),
        None if row.default.is_empty() => "empty".to_owned(),
        // A line of the page cannot break in a list of ciphers.
        None if row.default.len() >= 40 => "the list that nodegate check prints".to_owned(),
        None => row.default.to_owned(),
    }
}

fn kind(kind: ValueKind) -> String {
    match kind {
        ValueKind::Text => "text".to_owned(),
        ValueKind::List => "list".to_owned(),
        ValueKind::Bool => "boolean".to_owned(),
        ValueKind::Number(least, most) => format!("{least} to {most}"),
        ValueKind::Milliseconds(least, most) => {
            format!("{} to {}", setting::seconds_text(least), setting::seconds_text(most))
        }
    }
}

/// The paragraphs of the section of a key, if it has one.
fn section(part: &str, key: &str) -> Vec<String> {
    let heading = format!("\n### `{key}`\n");
    let behind = part.split_once(&heading).map_or("", |(_, behind)| behind);
    let text = behind.split("\n#").next().unwrap_or_default();
    // Comments name the tests of a paragraph.
    let lines = text.lines().filter(|line| !line.starts_with("<!--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.trim().replace('\n', " "));
    paragraphs.filter(|paragraph| !paragraph.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Default and meaning of a key; several keys may share a row.
    fn row(part: &str, key: &str) -> Option<(String, String)> {
        let quoted = format!("`{key}`");
        part.lines().find_map(|line| {
            let mut cells = line.strip_prefix('|')?.split(" | ").map(str::trim);
            cells.next().filter(|keys| keys.split(", ").any(|known| known == quoted))?;
            let (default, meaning) = (cells.next()?, cells.next()?);
            Some((default.to_owned(), meaning.trim_end_matches('|').trim().to_owned()))
        })
    }

    /// The table of the page has the text of the row. A long or empty default has its own words there.
    fn verify_row<T>(part: &str, setting: &Setting<T>) {
        let (default, meaning) = row(part, setting.key).unwrap_or_default();
        assert_eq!(meaning, setting.documentation, "{} in docs/reference/settings.md", setting.key);
        let is_shown = setting.inherits.is_none() && setting.default.len() < 40;
        assert!(!is_shown || default.contains(setting.default), "{}: {default}", setting.key);
        assert!(!default.is_empty());
    }

    #[test]
    fn the_page_has_the_row_of_each_setting() {
        for setting in settings::rows() {
            verify_row(settings_of(DOCUMENT), setting);
        }
        for setting in LISTENER_ROWS {
            verify_row(listeners(DOCUMENT), setting);
        }
    }

    /// The keys that rows and section headings of a part name.
    fn named(part: &str) -> (Vec<String>, Vec<String>) {
        let bare = |key: &str| key.trim_matches(['|', ' ', '`']).to_owned();
        let rows = part.lines().filter(|line| line.starts_with("| `"));
        let keys = rows.filter_map(|row| row.split(" | ").next()).flat_map(|keys| keys.split(", "));
        let headings = part.lines().filter_map(|line| line.strip_prefix("### `"));
        (keys.map(bare).collect(), headings.map(bare).collect())
    }

    #[test]
    fn the_documentation_names_only_existing_settings() {
        let known = settings::rows().map(|row| row.key).collect();
        let of_listeners = LISTENER_ROWS.iter().map(|row| row.key).collect();
        let parts: [(&str, Vec<&str>); 2] =
            [(settings_of(DOCUMENT), known), (listeners(DOCUMENT), of_listeners)];
        for (part, known) in parts {
            let (rows, headings) = named(part);
            for key in rows.iter().chain(&headings) {
                assert!(known.contains(&key.as_str()), "'{key}' is no setting");
            }
            assert_eq!(rows.len(), known.len());
            assert!(headings.iter().all(|key| !section(part, key).is_empty()));
        }
    }

    /// The rows of the table below a heading: a name, and the key that it stands for.
    fn names_below(heading: &str) -> Vec<(Option<&str>, &str)> {
        let part = DOCUMENT.split_once(&format!("\n## {heading}\n")).unwrap().1;
        let part = part.split("\n## ").next().unwrap_or_default();
        let rows = part.lines().filter_map(|line| line.strip_prefix("| `"));
        let pairs = rows.map(|row| row.trim_end_matches("` |").split_once(" | `").unwrap());
        pairs.map(|(name, key)| (name.split('`').next(), key)).collect()
    }

    #[test]
    fn every_legacy_name_is_listed() {
        let known = settings::rows().filter(|row| row.legacy.is_some()).map(|row| (row.legacy, row.key));
        assert_eq!(names_below("Names in the product's own file"), known.collect::<Vec<_>>());
    }

    #[test]
    fn every_old_name_is_listed() {
        let known = settings::rows().map(|row| (row.deprecated, row.key));
        let known = known.chain(LISTENER_ROWS.iter().map(|row| (row.deprecated, row.key)));
        let known: Vec<_> = known.filter(|(old, _)| old.is_some()).collect();
        assert_eq!(names_below("Old names"), known);
    }

    #[test]
    fn a_section_follows_the_row_of_its_setting() {
        let part = "| `a.b` | 1 | c |\n\n### `a.b`\n\nd\ne.\n<!-- test: t -->\n\nf.\n\n## g\n\nh.\n";
        assert_eq!(row(part, "a.b"), Some(("1".to_owned(), "c".to_owned())));
        assert_eq!(section(part, "a.b"), ["d e.", "f."]);
        assert!(section(part, "a").is_empty());
    }
}
