//! spice-gtk's client library without a screen.

use std::process::Command;

use nodegate_standin::now;
use serde_json::Value;

use super::guest::Guest;
use super::{PYTHON, in_repository, run, text};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};

/// Runs `tests/e2e/spice_viewer.py` with a ticket of that age.
fn view(guest: &Guest, site: &Site, gate: &Nodegate, age: i64, typing: &str) -> Value {
    let file = guest.viewer_file(site, gate, now() - age);
    let mut command = Command::new(PYTHON);
    command.arg(in_repository("tests/e2e/spice_viewer.py")).arg(file).arg(typing);
    let output = run(command.env("GSETTINGS_BACKEND", "memory"));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}\n{}", text(&output.stderr)))
}

/// Each channel of the viewer makes a CONNECT of its own.
#[test]
fn a_viewer_shows_and_controls_the_guest() {
    let (site, folder) = (Site::pve(), tempfile::tempdir().unwrap());
    let gate = Nodegate::start_profile(&site, "spice", &[]);
    let guest = Guest::start(folder.path());
    let seen = view(&guest, &site, &gate, 0, "tunnel");
    assert_eq!(seen["error"], Value::Null, "{seen}\n{}", gate.stderr());
    assert!(seen["lit_pixels"].as_u64().unwrap() > 300, "{seen}");
    eventually("the guest hears the keys", || guest.typed() == "tunnel");
    let mut channels: Vec<_> =
        seen["channels"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    channels.sort_unstable();
    assert_eq!(channels, ["cursor", "display", "inputs", "main"]);
    eventually("the tunnels are in the log", || site.access_log().lines().count() >= 4);
    let log = site.access_log();
    assert!(
        log.lines().count() == 4 && log.lines().all(|line| line.contains("\"CONNECT pvespiceproxy:")),
        "{log}"
    );
    assert!(log.lines().all(|line| line.ends_with(" HTTP/1.0\" 200 -")), "{log}");
}

#[test]
fn a_viewer_with_an_old_ticket_gets_401() {
    let (site, folder) = (Site::pve(), tempfile::tempdir().unwrap());
    let gate = Nodegate::start_profile(&site, "spice", &[]);
    let guest = Guest::start(folder.path());
    let seen = view(&guest, &site, &gate, 86_400, "");
    assert!(seen["error"].as_str().unwrap().contains("HTTP proxy connection failed: 401"), "{seen}");
    eventually("one refusal in the log", || {
        let log = site.access_log();
        log.lines().count() == 1 && log.contains("::***:") && log.contains(" HTTP/1.0\" 401 ")
    });
}
