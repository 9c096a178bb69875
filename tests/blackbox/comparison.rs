//! `docs/reference/comparison.md`: nodegate and the other programs know the words that its cells quote.

use std::path::Path;

use crate::support::nodegate::command;
use crate::support::require;

const DOCUMENT: &str = include_str!("../../docs/reference/comparison.md");
/// The columns whose programs can be had here, by their place in a row.
const PEERS: &[(usize, &str)] = &[(3, "/usr/sbin/nginx"), (4, "/usr/sbin/haproxy"), (5, "/usr/bin/caddy")];

/// The words of column `place` of all tables that are in back quotes.
fn quoted(place: usize) -> Vec<&'static str> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |"));
    let cells = rows.map(|row| row.split(" | ").nth(place).unwrap_or_else(|| panic!("{row}")));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// Each program knows the words that its column quotes.
#[test]
fn peers_know_the_quoted_words() {
    for (place, program) in PEERS {
        let words = quoted(*place);
        assert!(words.len() > 5, "{program}: {words:?}");
        if !require(Path::new(program).exists(), program) {
            continue;
        }
        let bytes = std::fs::read(program).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for word in words {
            // Of words that a program puts together, each is there.
            let there = |part: &str| text.contains(part);
            assert!(there(word) || word.split([' ', '-']).all(there), "{program} knows no '{word}'");
        }
    }
}

#[test]
fn every_named_setting_and_command_exists() {
    let help = |arguments: &[&str]| {
        let output = command(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let (commands, settings) = (help(&["--help"]), help(&["--root", "/nonexistent", "check", "pve"]));
    for word in quoted(1) {
        let known = match word.strip_prefix("nodegate ") {
            Some(verb) => commands.contains(&format!("  {verb} ")),
            None => settings.contains(&format!("{word} = ")),
        };
        assert!(known, "there is no '{word}'");
    }
}
