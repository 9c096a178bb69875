//! Keys and values of earlier releases: still read, with a warning that names the new ones.

use crate::support::nodegate::command;
use crate::support::{Outcome, Site};

const FILE: &str = "/etc/nodegate/pve.toml";

/// Deprecated key, new key, and a value that differs from the default.
const RENAMED: [(&str, &str, &str); 9] = [
    ("limits.body_rate", "limits.request_body_min_rate", "7"),
    ("limits.answer_rate", "limits.response_min_rate", "8"),
    ("limits.url", "limits.uri_bytes", "300"),
    ("limits.spool", "limits.upload_bytes_total", "1000000"),
    ("tls.more_certificates", "tls.additional_certificates", "/etc/nodegate/none.pem"),
    ("real_ip.acl", "real_ip.apply_acl", "true"),
    ("tunnel.on_https", "tunnel.connect_on_https", "true"),
    ("tunnel.public", "tunnel.advertised_proxy", "spice.example.com:443"),
    ("trace.parent", "trace.traceparent", "false"),
];

/// Each deprecated key sets the value of its successor, in a file, in the environment and with `--set`.
#[test]
fn deprecated_keys_work_in_every_layer() {
    for (old, new, value) in RENAMED {
        let site = Site::pve();
        let advice = format!("warning: deprecated; write {new}: the next release rejects this key");

        site.write(FILE, format!("# one line above\n{old} = \"{value}\"\n"));
        let place = format!("{}:2", site.path(FILE).display());
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.setting(new), format!("{new} = {value}  ({place})"));
        outcome.complains(&format!("{place}: {old}: {advice}"));

        site.write(FILE, "");
        let mut check = command(&["--root", site.root().to_str().unwrap(), "check", "pve"]);
        let variable = format!("NODEGATE_{}", old.to_uppercase().replace('.', "__"));
        let outcome = Outcome::of(check.env(&variable, value));
        assert_eq!(outcome.setting(new), format!("{new} = {value}  (environment {variable})"));
        outcome.complains(&format!("environment {variable}: {old}: {advice}"));

        let outcome = Outcome::check(&site, &[&format!("{old}={value}")]);
        assert_eq!(outcome.setting(new), format!("{new} = {value}  (--set)"));
        outcome.complains(&format!("--set: {old}: {advice}"));
    }
}

/// Warnings by themselves do not fail `check`, and a custom profile may have deprecated keys too.
#[test]
fn deprecated_keys_of_a_profile_are_warnings() {
    let site = Site::pve();
    let text = nodegate::testing::config::built_in_profile("pve").unwrap();
    let text = text.replace("\n[log]\n", "\n[log]\nformat = \"classic\"\n");
    site.write("/own.toml", format!("limits.url = 300\n{text}"));
    site.write("/pve.routes", nodegate::testing::config::built_in_file("pve.routes").unwrap());
    let path = site.path("/own.toml").display().to_string();
    let outcome = Outcome::ask(&site, &["check", &path]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(outcome.setting("limits.uri_bytes"), "limits.uri_bytes = 300  (profile)");
    assert_eq!(outcome.setting("log.format"), "log.format = text  (profile)");
    let rejects = "the next release rejects";
    outcome.complains(&format!(
        "{path}:1: limits.url: warning: deprecated; write limits.uri_bytes: {rejects} this key"
    ));
    outcome.complains(&format!(
        "{path}:9: log.format: warning: 'classic' is deprecated; write 'text': {rejects} 'classic'"
    ));
}

/// A custom profile has deprecated keys in `[product]` too. One of them beside its new name is an error.
#[test]
fn deprecated_product_keys_are_read_with_warnings() {
    for (site, new, old, [old_key, new_key]) in [
        (Site::pve(), "[product.auth", "[product.gate", ["product.gate", "product.auth"]),
        (Site::pmg(), "[product.route_scope", "[product.class", ["product.class", "product.route_scope"]),
        (
            Site::pve(),
            "spool_field = ",
            "patience = 5
spool_field = ",
            ["product.upload.patience", "product.upload.idle_timeout"],
        ),
    ] {
        let profile = site.profile();
        let text = nodegate::testing::config::built_in_profile(profile).unwrap().replace(new, old);
        let table = format!("{profile}.routes");
        site.write(&format!("/{table}"), nodegate::testing::config::built_in_file(&table).unwrap());
        site.write("/own.toml", &text);
        let path = site.path("/own.toml").display().to_string();
        let outcome = Outcome::ask(&site, &["check", &path]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let written = old.lines().next().unwrap();
        let line = 1 + text.lines().position(|line| line.contains(written)).unwrap();
        outcome.complains(&format!(
            "{path}:{line}: {old_key}: warning: deprecated; write {new_key}: the next release rejects this key"
        ));
        site.write(
            "/own.toml",
            text.replace(
                "patience = 5",
                "patience = 5
idle_timeout = 5",
            ),
        );
        let outcome = Outcome::ask(&site, &["check", &path]);
        let has_both = new_key.ends_with("idle_timeout");
        assert_eq!(outcome.code, i32::from(has_both), "{outcome:?}");
        assert_eq!(outcome.stderr.contains("remove product.upload.patience"), has_both, "{outcome:?}");
    }
}

/// A listener table takes `routes` for `route_scope`, and rejects both together.
#[test]
fn the_deprecated_listener_key_works() {
    let site = Site::pmg();
    let file = "/etc/nodegate/pmg.toml";
    let table =
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroutes = \"quarantine\"\n";
    site.write(file, table);
    let place = site.path(file).display().to_string();
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let value = format!("listener[1].route_scope = quarantine  ({place}:5)");
    assert_eq!(outcome.setting("listener[1].route_scope"), value);
    outcome.complains(&format!(
        "{place}:5: listener[1].routes: warning: deprecated; write route_scope: the next release rejects this key"
    ));

    site.write(file, format!("{table}route_scope = \"quarantine\"\n"));
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 1);
    outcome.complains(&format!(
        "{place}:5: listener[1].routes: routes is the deprecated name of route_scope, given at {place}:6; \
         remove routes"
    ));
}

/// One layer with both names is an error; a stronger layer overrides as always.
#[test]
fn both_names_of_a_key_are_an_error() {
    let site = Site::pve();
    site.write(FILE, "[limits]\nurl = 300\nuri_bytes = 400\n");
    let place = site.path(FILE).display().to_string();
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 1);
    let both = "limits.url is the deprecated name of limits.uri_bytes, given at";
    outcome.complains(&format!("{place}:2: limits.url: {both} {place}:3; remove limits.url"));

    site.write(FILE, "");
    let sets = ["limits.url=300", "limits.uri_bytes=400"];
    let outcome = Outcome::check(&site, &sets);
    assert_eq!(outcome.code, 1);
    outcome.complains(&format!("--set: limits.uri_bytes: {both} --set; remove limits.url"));

    site.write(FILE, "limits.url = 300\n");
    let outcome = Outcome::check(&site, &["limits.uri_bytes=400"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(outcome.setting("limits.uri_bytes"), "limits.uri_bytes = 400  (--set)");
}
