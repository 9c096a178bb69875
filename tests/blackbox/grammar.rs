//! The grammar of products is data: no word of it stands in the engine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Value;

const PROFILES: &[&str] = &["pve", "pmg", "spice"];

/// Keys of `[product]` whose values are grammar: names in paths, headers, cookies, forms and tickets. `*` is any key and
/// any place in a list.
const VALUES: &[&str] = &[
    "daemon",
    "secret_parameters.*",
    "api.prefix",
    "page_title.class",
    "backend.client_header",
    "backend.loop_header",
    "backend.stream_header",
    "console.ticket.*.parameter",
    "connect.prefix",
    "connect.answers.field",
    "upload.file",
    "upload.spool_field",
    "upload.privilege",
    "upload.formats.*",
    "auth.cookie",
    "auth.api_token",
    "auth.login_page",
    "auth.csrf.header",
    "auth.ticket_form.half_logins.*.prefix",
    "auth.ticket_form.half_logins.*.complete",
    "auth.ticket.*.prefix",
    "auth.ticket.*.realm",
    "auth.ticket.*.link",
    "auth.ticket.*.lifetime.section",
    "route_scope.*.login.realm",
    "route_scope.*.tickets.*",
    "variable.*.from.*.cookie",
];
/// Keys of `[product]` below which the names of the keys are grammar.
const NAMES: &[&str] = &["api.formats", "route_scope", "variable"];
/// Words that mean the same to every product, or to an RFC.
const GENERIC: &[&str] = &[
    "access", "arch", "cluster", "console", "debug", "filename", "html", "json", "lang", "mobile",
    "nodename", "password", "proxy", "theme", "ticket", "token", "username", "verified", "version",
];

fn values<'v>(value: &'v Value, path: &str) -> Vec<&'v Value> {
    let mut found = vec![value];
    for key in path.split('.') {
        found = found
            .into_iter()
            .flat_map(|value| match value {
                Value::Table(table) if key == "*" => table.values().collect(),
                Value::Table(table) => table.get(key).into_iter().collect(),
                Value::Array(list) if key == "*" => list.iter().collect::<Vec<_>>(),
                _ => Vec::new(),
            })
            .collect();
    }
    found
}

/// The words of a value: `/a/b2` has two, `!tfa!` has one.
fn split_words(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')));
    parts.filter(|word| word.len() > 1).map(str::to_ascii_lowercase)
}

fn grammar_words() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for profile in PROFILES {
        let text = nodegate::testing::config::built_in_profile(profile).unwrap();
        let document: toml::Table = text.parse().unwrap();
        let product = &document["product"];
        let texts = VALUES.iter().flat_map(|path| values(product, path)).filter_map(Value::as_str);
        words.extend(texts.flat_map(split_words));
        let tables = NAMES.iter().flat_map(|path| values(product, path)).filter_map(Value::as_table);
        words.extend(tables.flat_map(toml::Table::keys).flat_map(|key| split_words(key)));
    }
    words.retain(|word| !GENERIC.contains(&word.as_str()));
    words
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let nested = entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    nested.filter(|path| path.extension().is_some_and(|end| end == "rs")).collect()
}

/// The lines before the tests of a file.
fn shipped(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate();
    numbered.take_while(|(_, line)| !line.ends_with("mod tests {")).map(|(index, line)| (index + 1, line))
}

fn holds(line: &str, word: &str) -> bool {
    let line = line.to_ascii_lowercase();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

#[test]
fn the_words_come_from_the_profiles() {
    let words = grammar_words();
    for word in [
        "api2",
        "extjs",
        "vncticket",
        "pveauthcookie",
        "csrfpreventiontoken",
        "pveapitoken",
        "quarantine",
        "tfa",
    ] {
        assert!(words.contains(word), "{word} is not in {words:?}");
    }
    assert!(holds("let a = \"/api2/x\";", "api2") && !holds("let rapi2 = 1;", "api2"));
}

/// Comments count: a comment about one product misleads whoever writes the next profile.
#[test]
fn the_engine_has_no_product_grammar() {
    let words = grammar_words();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = rust_files(&root.join("src"));
    assert!(files.len() > 100, "the sources have moved");
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = fs::read_to_string(file).unwrap();
        let name = file.strip_prefix(root).unwrap().display();
        for (number, line) in shipped(&text) {
            let named = words.iter().filter(|word| holds(line, word));
            found.extend(named.map(|word| format!("{name}:{number}: {word}: {}", line.trim())));
        }
    }
    assert!(found.is_empty(), "put these words into the profiles:\n{}", found.join("\n"));
}
