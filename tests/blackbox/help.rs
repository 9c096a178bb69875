//! Help that teaches: `--help`, the manual pages, the completions, and hints for what was mistyped.

use std::fs;
use std::process::Command;

use crate::support::nodegate::command;
use crate::support::{Outcome, Site};

#[test]
fn help_shows_settings_exit_codes_and_examples() {
    let help = Outcome::of(&mut command(&["--help"]));
    assert_eq!(help.code, 0);
    for text in ["/etc/nodegate/NAME.toml", "NODEGATE_LISTEN__PORT", "wrong usage", "nodegate check pve"] {
        assert!(help.stdout.contains(text), "{text} is missing in {}", help.stdout);
    }
    let short = Outcome::of(&mut command(&["-h"]));
    assert!(short.stdout.lines().count() < 40, "{}", short.stdout);
}

#[test]
fn what_was_probably_meant_is_named() {
    let site = Site::pve();
    for (wrong, meant) in [("pvee", "pve"), ("pveproxy", "pve"), ("spcie", "spice")] {
        let outcome = Outcome::ask(&site, &["check", wrong]);
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains(&format!("did you mean {meant}?")), "{outcome:?}");
    }
    let outcome = Outcome::check(&site, &["listen.prot=1"]);
    assert!(outcome.stderr.contains("did you mean listen.port?"), "{outcome:?}");
    let outcome = Outcome::of(&mut command(&["chekc", "pve"]));
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("'check'"), "{outcome:?}");
}

/// They render without a warning.
#[test]
fn manual_pages_name_every_setting() {
    let folder = tempfile::tempdir().unwrap();
    let made = Outcome::of(&mut command(&["generate", "man", folder.path().to_str().unwrap()]));
    assert_eq!(made.code, 0, "{made:?}");
    let mut rendered = Vec::new();
    for name in ["nodegate.1", "nodegate.toml.5"] {
        let page = folder.path().join(name);
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]).arg(&page).env("MANROFFSEQ", "");
        let outcome = Outcome::of(&mut man);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{name}");
        let mut man = Command::new("man");
        let outcome = Outcome::of(man.env("MANWIDTH", "2000").arg("-l").arg(&page));
        rendered.push(outcome.stdout);
    }
    for text in ["nodegate - ", "SYNOPSIS", "check PROFILE", "--root", "EXIT CODES", "nodegate.toml(5)"] {
        assert!(rendered[0].contains(text), "{text} is missing in {}", rendered[0]);
    }
    for row in nodegate::testing::config::rows() {
        assert!(rendered[1].contains(row.key), "{} is missing", row.key);
    }
    assert!(rendered[1].contains("ALLOW_FROM"), "{}", rendered[1]);
    for page in &rendered {
        for line in page.lines() {
            let mark =
                ["`", "](", "<!--", "**", "| ", "\\f", "\\-"].into_iter().find(|mark| line.contains(mark));
            assert_eq!(mark, None, "Markdown or roff is left: {line}");
            let is_balanced = |open, close| line.matches(open).count() == line.matches(close).count();
            assert!(is_balanced('[', ']'), "half of a link is left: {line}");
        }
    }
}

#[test]
fn completions_are_made_for_three_shells() {
    let folder = tempfile::tempdir().unwrap();
    let made = Outcome::of(&mut command(&["generate", "completions", folder.path().to_str().unwrap()]));
    assert_eq!(made.code, 0, "{made:?}");
    let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
    for name in ["nodegate.bash", "_nodegate", "nodegate.fish"] {
        assert!(read(name).contains("check"), "{name}");
    }
    let script = folder.path().join("nodegate.bash");
    let asked = format!(
        "source {}; COMP_WORDS=(nodegate che); COMP_CWORD=1; _nodegate nodegate che nodegate; echo ${{COMPREPLY[*]}}",
        script.display()
    );
    let outcome = Outcome::of(Command::new("bash").args(["--norc", "-c", &asked]));
    assert_eq!(outcome.stdout.trim(), "check", "{outcome:?}");
}
