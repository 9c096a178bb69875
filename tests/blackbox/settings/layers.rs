//! The layer that wins, and its name in `check`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::{Value, json};

use crate::support::nodegate::command;
use crate::support::{Nodegate, Outcome, Site};

/// `check` names the layer of each value.
#[test]
fn each_layer_overrides_the_one_below() {
    let site = Site::pve();
    let key = "acl.deny_from";
    let setting = |outcome: &Outcome| outcome.setting(key).to_owned();
    assert_eq!(setting(&Outcome::check(&site, &[])), format!("{key} =   (profile)"));

    site.write("/usr/lib/nodegate/pve.toml", "acl.deny_from = \"10.0.0.0/16\"\n");
    let place = site.path("/usr/lib/nodegate/pve.toml").display().to_string() + ":1";
    assert_eq!(setting(&Outcome::check(&site, &[])), format!("{key} = 10.0.0.0/16  ({place})"));

    site.legacy("POLICY=allow\n\nDENY_FROM=\"10.1.0.0/16\"\n");
    let place = site.path("/etc/default/pveproxy").display().to_string() + ":3";
    assert_eq!(setting(&Outcome::check(&site, &[])), format!("{key} = 10.1.0.0/16  ({place})"));

    site.write("/etc/nodegate/pve.toml", "# the site's own\n[acl]\ndeny_from = \"10.2.0.0/16\"\n");
    let place = site.path("/etc/nodegate/pve.toml").display().to_string() + ":3";
    assert_eq!(setting(&Outcome::check(&site, &[])), format!("{key} = 10.2.0.0/16  ({place})"));

    let mut check = command(&["--root", site.root().to_str().unwrap(), "check", "pve"]);
    check.env("NODEGATE_ACL__DENY_FROM", "10.3.0.0/16");
    let outcome = Outcome::of(&mut check);
    assert_eq!(setting(&outcome), format!("{key} = 10.3.0.0/16  (environment NODEGATE_ACL__DENY_FROM)"));

    check.args(["--set", "acl.deny_from=10.4.0.0/16", "--set", "acl.deny_from=10.5.0.0/16"]);
    let outcome = Outcome::of(&mut check);
    assert_eq!(setting(&outcome), format!("{key} = 10.5.0.0/16  (--set)"), "the last one counts");
    assert_eq!(outcome.code, 0, "{outcome:?}");
}

/// An access list in a file that does not count: both places are named, by `check`, at the start, and at a reload.
#[test]
fn an_overridden_value_is_named_with_both_places() {
    let site = Site::pve();
    site.write("/usr/lib/nodegate/pve.toml", "backend.unprivileged = \"127.0.0.1:86\"\nworkers = 4\n");
    site.legacy("ALLOW_FROM=\"10.0.0.0/8, 192.168.0.0/16\"\nDENY_FROM=all\nMAX_WORKERS=4\n");
    let settings =
        "backend.unprivileged = \"\"\n[acl]\nallow_from = [\"192.0.2.0/24\"]\ndeny_from = \"all\"\n";
    site.write("/etc/nodegate/pve.toml", settings);
    let [legacy, own] =
        ["/etc/default/pveproxy", "/etc/nodegate/pve.toml"].map(|file| site.path(file).display().to_string());
    let expected = format!(
        "{legacy}:1: ALLOW_FROM (acl.allow_from): warning: '10.0.0.0/8, 192.168.0.0/16' is overridden by {own}:3, which \
         says '192.0.2.0/24'"
    );
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.complains(&expected);
    assert_eq!(
        outcome.stderr.matches("is overridden by").count(),
        1,
        "equal values are no news, nor are defaults of a package: {outcome:?}"
    );
    let (_, answer) = Outcome::check_json(&site, &[]);
    let warnings = answer["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|it| it["file"] == json!(legacy) && it["line"] == 1), "{answer}");
    let by_set = Outcome::check(&site, &["acl.allow_from=127.0.0.1"]);
    by_set.complains(&format!(
        "{own}:3: acl.allow_from: warning: '192.0.2.0/24' is overridden by --set, which says '127.0.0.1'"
    ));

    site.write("/etc/nodegate/pve.toml", settings.replace("192.0.2.0/24", "127.0.0.1"));
    let gate = Nodegate::start(&site, &[]);
    let reported = "is overridden by";
    let count = || gate.stderr().matches(reported).count();
    assert!(gate.stderr().contains("which says '127.0.0.1'"), "{}", gate.stderr());
    let before = count();
    crate::reload::reload(&gate, " reloaded");
    assert_eq!(count(), 2 * before, "again at each reload: {}", gate.stderr());
}

#[test]
fn ignored_listener_tables_are_named() {
    let site = Site::pve();
    let table = |name: &str| format!("\n[[listener]]\nname = \"{name}\"\nport = 0\n");
    site.write("/usr/lib/nodegate/pve.toml", table("package"));
    assert!(!Outcome::check(&site, &[]).stderr.contains("[[listener]]"));
    site.write("/etc/nodegate/pve.toml", table("own"));
    let [package, own] = ["/usr/lib/nodegate/pve.toml", "/etc/nodegate/pve.toml"]
        .map(|file| site.path(file).display().to_string());
    let outcome = Outcome::check(&site, &[]);
    outcome.complains(&format!(
        "{package}:2: listener: warning: the [[listener]] tables of this file are overridden by those of {own}:2"
    ));
    assert!(outcome.stdout.contains("listener[1].name = own"), "{outcome:?}");
}

/// The origin is a layer, a file and a line.
#[test]
fn json_gives_every_value_and_its_origin() {
    let site = Site::pve();
    site.legacy("DENY_FROM=10.2.0.0/16\n");
    site.write("/etc/nodegate/pve.toml", "limits.body = 1000\n");
    let (code, answer) = Outcome::check_json(&site, &["compression.enabled=0"]);
    let legacy = site.path("/etc/default/pveproxy").display().to_string();
    let site_file = site.path("/etc/nodegate/pve.toml").display().to_string();
    let settings = &answer["settings"];
    let expected = [
        ("acl.deny_from", json!("10.2.0.0/16"), format!("{legacy}:1"), json!(legacy), json!(1)),
        ("limits.body", json!(1000), format!("{site_file}:1"), json!(site_file), json!(1)),
        ("compression.enabled", json!(false), "--set".to_owned(), Value::Null, Value::Null),
        ("workers", json!(3), "profile".to_owned(), Value::Null, Value::Null),
    ];
    for (key, value, layer, file, line) in expected {
        assert_eq!(
            settings[key],
            json!({"value": value, "layer": layer, "file": file, "line": line}),
            "{key}"
        );
    }
    assert_eq!((code, &answer["problems"]), (0, &json!([])));
    let printed = Outcome::check(&site, &[]);
    assert_eq!(settings.as_object().unwrap().len(), printed.stdout.lines().count());
}

#[test]
fn json_names_problems_with_file_line_key() {
    let site = Site::pve();
    site.legacy("\nCOMPRESSION=yes\n");
    let (code, answer) = Outcome::check_json(&site, &["listen.port=none"]);
    let legacy = site.path("/etc/default/pveproxy").display().to_string();
    let problems = answer["problems"].as_array().unwrap();
    let find = |key| problems.iter().find(|problem| problem["key"] == key).unwrap();
    assert_eq!((code, problems.len()), (1, 2), "{answer}");
    let wrong = find("COMPRESSION");
    assert_eq!((&wrong["file"], &wrong["line"]), (&json!(legacy), &json!(2)));
    assert_eq!(wrong["message"], "must be 0 or 1, not 'yes' (compression.enabled)");
    let wrong = find("listen.port");
    assert_eq!((&wrong["file"], &wrong["line"]), (&Value::Null, &Value::Null));
}

/// Numbers, truth values, arrays and texts.
#[test]
fn values_mean_the_same_in_every_layer() {
    let same = [
        ("limits.body", json!(1000), vec!["1000", "\"1000\""], "1000"),
        ("compression.enabled", json!(false), vec!["false", "0", "\"0\"", "\"false\""], "0"),
        ("backend.keepalive", json!(true), vec!["true", "1", "\"1\"", "\"true\""], "true"),
        ("workers", json!(5), vec!["5", "\"5\""], "5"),
        ("node.name", json!("10"), vec!["10", "\"10\""], "10"),
        (
            "acl.allow_from",
            json!("10/8,192.168/16"),
            vec!["\"10/8,192.168/16\"", "[\"10/8\", \"192.168/16\"]"],
            "10/8,192.168/16",
        ),
    ];
    let site = Site::pve();
    for (key, meant, spellings, plain) in same {
        for spelling in spellings {
            site.write("/etc/nodegate/pve.toml", format!("{key} = {spelling}\n"));
            let (code, answer) = Outcome::check_json(&site, &[]);
            assert_eq!((code, &answer["settings"][key]["value"]), (0, &meant), "{key} = {spelling}");
        }
        site.write("/etc/nodegate/pve.toml", "");
        let (code, answer) = Outcome::check_json(&site, &[&format!("{key}={plain}")]);
        assert_eq!((code, &answer["settings"][key]["value"]), (0, &meant), "--set {key}={plain}");
        let variable = format!("NODEGATE_{}", key.to_uppercase().replace('.', "__"));
        let mut check = command(&["--root", site.root().to_str().unwrap(), "check", "--json", "pve"]);
        let answer: Value = serde_json::from_str(&Outcome::of(check.env(&variable, plain)).stdout).unwrap();
        assert_eq!(answer["settings"][key]["value"], meant, "{variable}={plain}");
    }
}

const QUEUE_DEFAULTS: [(&str, &str); 6] = [
    ("backend.workers", "3"),
    ("backend.unprivileged_workers", "3"),
    ("backend.slow_call", "0.5"),
    ("backend.queue", "1024"),
    ("backend.queue_per_client", "256"),
    ("timeout.queue", "30"),
];

const MONITORING_DEFAULTS: [(&str, &str); 5] = [
    ("metrics.listen", ""),
    ("metrics.allow_from", "127.0.0.0/8,::1"),
    ("metrics.hosts", ""),
    ("metrics.status_allow_from", "127.0.0.0/8,::1"),
    ("metrics.mask_addresses", "true"),
];

/// The defaults of the contract, for each profile where they differ.
#[test]
fn without_files_settings_have_documented_defaults() {
    let site = Site::pve();
    let outcome = Outcome::check(&site, &[]);
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let expected = [
        ("listen.address", "::"),
        ("listen.port", "8006"),
        ("acl.allow_from", ""),
        ("acl.deny_from", ""),
        ("acl.policy", "allow"),
        ("tls.honor_cipher_order", "1"),
        ("tls.disable_tls_1_2", "0"),
        ("tls.disable_tls_1_3", "0"),
        ("tls.dhparams", ""),
        ("tls.key_file", ""),
        ("http2", "false"),
        ("compression.enabled", "1"),
        ("listen.proxy_protocol", "false"),
        ("compression.api", "false"),
        ("real_ip.header", ""),
        ("real_ip.allow_from", ""),
        ("real_ip.apply_acl", "false"),
        ("cluster.proxy_protocol", "false"),
        ("routes.file", ""),
        ("workers", "3"),
        ("backend.address", "127.0.0.1:85"),
        ("backend.unprivileged", ""),
        ("backend.keepalive", "false"),
        ("backend.coalesce", "false"),
        ("node.name", host.split('.').next().unwrap()),
        ("cluster.port", "8006"),
        ("tunnel.peer_port", "3128"),
        ("tunnel.ports", "61000-61999"),
        ("tunnel.connect_on_https", "false"),
        ("tunnel.advertised_proxy", ""),
        ("tunnel.peer_tls", "false"),
        ("user", "www-data"),
        ("timeout.connect", "10"),
        ("timeout.answer", "30"),
        ("timeout.answer_unprivileged", "600"),
        ("timeout.first_byte", "0"),
        ("timeout.handshake", "0"),
        ("timeout.header", "10"),
        ("timeout.body", "30"),
        ("timeout.login_body", "10"),
        ("timeout.write", "60"),
        ("timeout.idle", "65"),
        ("timeout.tunnel", "0"),
        ("timeout.stop", "10"),
        ("timeout.drain", "86400"),
        ("limits.body", "524288"),
        ("limits.login_body", "16384"),
        ("limits.buffered", "67108864"),
        ("limits.request_body_min_rate", "1000"),
        ("limits.response_min_rate", "250"),
        ("limits.uri_bytes", "32768"),
        ("limits.header", "8192"),
        ("limits.headers", "64"),
        ("tls.additional_certificates", ""),
        ("tls.client_certificates", "off"),
        ("tls.client_ca", ""),
        ("tls.client_crl", ""),
        ("limits.connections", "0"),
        ("limits.connections_per_address", "0"),
        ("limits.requests_per_address", "0"),
        ("limits.uploads", "64"),
        ("limits.upload_bytes_total", "0"),
        ("limits.login_failures", "20"),
        ("console.ping", "30"),
        ("console.origins", ""),
        ("console.recheck", "30"),
        ("listen.hosts", ""),
        ("headers.nosniff", "true"),
        ("headers.hsts", "0"),
        ("headers.frames", ""),
        ("headers.referrer", ""),
        ("headers.csp", "false"),
        ("cors.origins", ""),
        ("health.live", "/-/health"),
        ("health.ready", "/-/ready"),
        ("trace.request_id_header", ""),
        ("trace.traceparent", "true"),
        ("log.access", "/var/log/pveproxy/access.log"),
        ("log.format", "text"),
        ("log.target", "1024"),
    ];
    for (key, value) in expected.into_iter().chain(QUEUE_DEFAULTS).chain(MONITORING_DEFAULTS) {
        assert_eq!(outcome.setting(key), format!("{key} = {value}  (profile)"));
    }
    let listed = expected.len() + QUEUE_DEFAULTS.len() + MONITORING_DEFAULTS.len();
    assert_eq!(outcome.stdout.lines().count(), listed + 2, "the two cipher lists, and nothing else");
    let pmg = Outcome::check(&Site::pmg(), &[]);
    assert_eq!(pmg.setting("log.access"), "log.access = /var/log/pmgproxy/pmgproxy.log  (profile)");
    assert_eq!(pmg.setting("listen.port"), "listen.port = 8006  (profile)");
    let spice = Outcome::ask(&site, &["check", "spice"]);
    assert_eq!(spice.setting("listen.port"), "listen.port = 3128  (profile)");
    assert_eq!(spice.setting("log.access"), "log.access = /var/log/pveproxy/access.log  (profile)");
    assert_eq!((outcome.code, pmg.code, spice.code), (0, 0, 0), "{outcome:?} {pmg:?} {spice:?}");
}

#[test]
fn an_environment_that_is_no_unicode_harms_nothing() {
    let site = Site::pve();
    let mut check = command(&["--root", site.root().to_str().unwrap(), "check", "pve"]);
    let outcome = Outcome::of(check.env("SOMEBODY_ELSES", OsStr::from_bytes(b"\xff")));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let outcome = Outcome::of(check.env("NODEGATE_NODE__NAME", OsStr::from_bytes(b"\xff")));
    assert_eq!(outcome.code, 1);
    outcome.complains("environment NODEGATE_NODE__NAME: node.name: is not UTF-8 text");
}

#[test]
fn site_files_are_read_by_their_profile() {
    let site = Site::pve();
    site.write("/etc/nodegate/spice.toml", "workers = 7\n");
    assert_eq!(Outcome::check(&site, &[]).setting("workers"), "workers = 3  (profile)");
    let place = site.path("/etc/nodegate/spice.toml").display().to_string();
    let spice = Outcome::ask(&site, &["check", "spice"]);
    assert_eq!(spice.setting("workers"), format!("workers = 7  ({place}:1)"));
}

#[test]
fn settings_of_the_site_file_take_effect() {
    let site = Site::pve();
    site.write("/etc/nodegate/pve.toml", "[limits]\nbody = 4\n");
    let gate = Nodegate::start(&site, &[]);
    let reply = gate.request("POST", "/api2/json/access/ticket", "", b"12345");
    assert_eq!(reply.status, 413);
    assert_ne!(gate.request("POST", "/api2/json/access/ticket", "", b"1234").status, 413);
}
