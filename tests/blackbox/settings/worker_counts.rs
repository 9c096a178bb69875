//! How many requests each daemon works on at once: the daemons' own files say so, unless a setting does.

use serde_json::json;

use crate::support::{Outcome, Site};

const KEYS: [&str; 2] = ["backend.workers", "backend.unprivileged_workers"];

fn values(site: &Site) -> [String; 2] {
    let outcome = Outcome::check(site, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    KEYS.map(|key| outcome.setting(key).to_owned())
}

#[test]
fn the_daemons_own_files_set_the_worker_counts() {
    for (site, daemon, proxy) in
        [(Site::pve(), "pvedaemon", "pveproxy"), (Site::pmg(), "pmgdaemon", "pmgproxy")]
    {
        let default = KEYS.map(|key| format!("{key} = 3  (profile)"));
        assert_eq!(values(&site), default);
        let [daemon, proxy] = [daemon, proxy].map(|name| format!("/etc/default/{name}"));
        site.write(&daemon, "DEBUG=1\nMAX_WORKERS=4\nMAX_WORKERS=\"7\" # busy\n");
        site.write(&proxy, "MAX_WORKERS=5\n");
        let place = |file: &str| site.path(file).display().to_string();
        let expected = [
            format!("backend.workers = 7  ({}:3)", place(&daemon)),
            format!("backend.unprivileged_workers = 5  ({}:1)", place(&proxy)),
        ];
        assert_eq!(values(&site), expected);
        site.write(&daemon, "MAX_WORKERS=\n");
        assert_eq!(values(&site)[0], default[0], "an empty value is none");
    }
}

#[test]
fn a_setting_overrides_the_daemons_file() {
    let site = Site::pve();
    site.write("/etc/default/pvedaemon", "MAX_WORKERS=4\n");
    site.write("/etc/nodegate/pve.toml", "[backend]\nworkers = 0\nslow_call = 1.25\n");
    let own = site.path("/etc/nodegate/pve.toml").display().to_string();
    let file = site.path("/etc/default/pvedaemon").display().to_string();
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.setting("backend.workers"), format!("backend.workers = 0  ({own}:2)"));
    assert_eq!(outcome.setting("backend.slow_call"), format!("backend.slow_call = 1.25  ({own}:3)"));
    outcome.complains(&format!(
        "{file}:1: backend.workers: warning: '4' is overridden by {own}:2, which says '0'"
    ));
    let (code, answer) = Outcome::check_json(&site, &["backend.slow_call=0.5"]);
    assert_eq!((code, &answer["settings"]["backend.slow_call"]["value"]), (0, &json!(0.5)));
    assert_eq!(answer["settings"]["backend.workers"]["value"], json!(0));
}

/// The daemon starts three workers then. Its file is not nodegate's, so nothing in it is an error.
#[test]
fn a_wrong_worker_count_is_a_warning() {
    let site = Site::pve();
    let file = site.path("/etc/default/pvedaemon").display().to_string();
    for wrong in ["0", "128", "many"] {
        site.write("/etc/default/pvedaemon", format!("MAX_WORKERS={wrong}\n"));
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        outcome.complains(&format!(
            "{file}:1: MAX_WORKERS (backend.workers): warning: must be a whole number from 1 to 127, not '{wrong}'; \
             using 3"
        ));
        assert_eq!(outcome.setting("backend.workers"), "backend.workers = 3  (profile)");
    }
    site.write("/etc/default/pvedaemon", "if true; then MAX_WORKERS=5; fi\n");
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let is_named = |line: &str| line.starts_with(&format!("{file}:1: backend.workers: warning: "));
    assert!(outcome.stderr.lines().any(is_named), "{outcome:?}");
}

#[test]
fn seconds_with_too_many_decimals_are_an_error() {
    let site = Site::pve();
    for wrong in ["0", "0.0005", "1e3", "soon"] {
        let outcome = Outcome::check(&site, &[&format!("backend.slow_call={wrong}")]);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        outcome.complains(&format!(
            "--set: backend.slow_call: must be a number from 0.001 to 3600 with at most three decimals, not '{wrong}'"
        ));
    }
}
