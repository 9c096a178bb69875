//! Reasons for which `nodegate takeover` refuses on every machine. `tests/packages` has the rest, in a booted machine.

use crate::support::Outcome;
use crate::support::nodegate::command;

fn run(arguments: &[&str]) -> Outcome {
    Outcome::of(&mut command(arguments))
}

#[test]
fn a_takeover_takes_its_settings_from_files() {
    for name in ["takeover", "giveback"] {
        let outcome = run(&[name, "pve", "--set", "workers=2"]);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains("the unit has no --set"), "{outcome:?}");
        let outcome = run(&[name, "pve", "--root", "/nowhere"]);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains("--root has no meaning here"), "{outcome:?}");
    }
}

#[test]
fn wrong_times_and_pairs_are_usage_errors() {
    for wrong in [
        &["--trial", "25h"][..],
        &["--trial", "0"],
        &["--trial", "soon"],
        &["--trial", "10m", "--confirm"],
        &["--confirm", "--credential-variable", "X"],
    ] {
        let outcome = run(&[&["takeover", "pve"], wrong].concat());
        assert_eq!(outcome.code, 2, "{wrong:?}: {outcome:?}");
    }
}

#[test]
fn only_systemd_runs_the_guard() {
    let outcome = run(&["guard", "pve"]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("nodegate takeover"), "{outcome:?}");
}
