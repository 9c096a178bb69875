//! Client libraries from npm: they log in, read, write, and get an error if they may not.

use std::process::Command;

use nodegate_standin::Product;

use super::api::site_with_ca;
use super::{in_repository, run, text};
use crate::support::Nodegate;

/// One session of the library, as its users write it.
fn a_session_works(library: &str) {
    let (site, ca) = site_with_ca(Product::Pve);
    let gate = Nodegate::start(&site, &[]);
    let mut command = Command::new("node");
    command.arg(in_repository("tests/e2e/api_client.mjs")).args([
        library,
        "127.0.0.1",
        &gate.port().to_string(),
    ]);
    let output = run(command.current_dir(in_repository("")).env("NODE_EXTRA_CA_CERTS", ca));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((answer["version"].as_str(), answer["written"].is_null()), (Some("9.2.11"), true), "{answer}");
    assert_ne!(answer["wrongPassword"], "in", "{answer}");
    assert_ne!(answer["wrongPassword"], "true", "{answer}");
    let written =
        site.daemon.requests().into_iter().filter(|request| request.method == "PUT").collect::<Vec<_>>();
    assert_eq!(written.len(), 1);
    assert!(
        written[0].text().contains("keyboard") && written[0].text().contains("de"),
        "{}",
        written[0].text()
    );
    assert!(written[0].header("CSRFPreventionToken").is_some());
}

#[test]
fn proxmox_api_of_npm_works() {
    a_session_works("proxmox-api");
}

#[test]
fn cv4pve_of_npm_works() {
    a_session_works("@corsinvest/cv4pve-api-javascript");
}
