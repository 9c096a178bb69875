//! Licences, sources and versions of the built-in crates, as `.cargo/deny.toml` says; and the toolchain that builds
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn toml(path: &str) -> toml::Table {
    fs::read_to_string(here(path)).unwrap().parse().unwrap()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(here("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every package for this machine, those of the tests included.
fn packages() -> Vec<Value> {
    let version = output("rustc", &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let options = ["metadata", "--format-version", "1", "--locked", "--filter-platform", host];
    let metadata: Value = serde_json::from_str(&output("cargo", &options)).unwrap();
    let used: Vec<_> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| &node["id"]).collect();
    let all = metadata["packages"].as_array().unwrap().iter();
    all.filter(|package| used.contains(&&package["id"])).cloned().collect()
}

#[test]
fn every_licence_is_allowed() {
    let allowed = toml(".cargo/deny.toml")["licenses"]["allow"].as_array().unwrap().clone();
    let allowed: Vec<_> = allowed.iter().map(|name| name.as_str().unwrap()).collect();
    let packages = packages();
    assert!(packages.len() > 100);
    for package in packages {
        let name = &package["name"];
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX).unwrap();
        let fits = |one: &spdx::LicenseReq| {
            one.addition.is_none() && one.license.id().is_some_and(|id| allowed.contains(&id.name))
        };
        assert!(expression.evaluate(fits), "{name}: {licence}");
    }
}

/// None comes from a repository.
#[test]
fn all_crates_come_from_one_registry() {
    let packages = packages();
    let sources: BTreeSet<_> = packages.iter().filter_map(|package| package["source"].as_str()).collect();
    assert!(
        sources.len() == 1 && sources.iter().all(|source| source.starts_with("registry+")),
        "{sources:?}"
    );
    let own = here("").canonicalize().unwrap();
    for package in packages.iter().filter(|package| package["source"].is_null()) {
        assert!(Path::new(package["manifest_path"].as_str().unwrap()).starts_with(&own), "{package}");
    }
}

#[test]
fn only_listed_crates_are_duplicated() {
    let options = ["tree", "--locked", "-p", "nodegate", "--edges", "normal,build", "--prefix", "none"];
    let tree = output("cargo", &[&options[..], &["--format", "{p}"]].concat());
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for mut words in tree.lines().map(str::split_whitespace) {
        versions.entry(words.next().unwrap()).or_default().insert(words.next().unwrap());
    }
    assert!(versions.len() > 50, "{versions:?}");
    let twice = versions.iter().filter(|(_, versions)| versions.len() > 1);
    let twice: Vec<_> = twice.map(|(name, _)| *name).collect();
    let listed = toml(".cargo/deny.toml")["bans"]["skip"].as_array().unwrap().clone();
    let listed: Vec<_> = listed.iter().map(|entry| entry["crate"].as_str().unwrap()).collect();
    let listed: Vec<_> = listed.iter().map(|entry| entry.split('@').next().unwrap()).collect();
    assert_eq!(twice, listed);
}

#[test]
fn the_oldest_named_toolchain_builds_it() {
    let named = toml("Cargo.toml")["workspace"]["package"]["rust-version"].as_str().unwrap().to_owned();
    let used = output("rustc", &["--version"]);
    assert!(used.starts_with(&format!("rustc {named}.")), "{used} is not the {named} of Cargo.toml");
}
