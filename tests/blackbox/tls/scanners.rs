//! Reports of independent scanners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::nginx::Nginx;
use crate::support::{Nodegate, Outcome, Site};

#[test]
fn sslscan_finds_nothing_old() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let outcome = Outcome::of(Command::new("sslscan").args(["--no-colour", &gate.address().to_string()]));
    let said = &outcome.stdout;
    let words: Vec<String> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "SSLv2 disabled",
        "SSLv3 disabled",
        "TLSv1.0 disabled",
        "TLSv1.1 disabled",
        "TLSv1.2 enabled",
        "TLSv1.3 enabled",
        "Server supports TLS Fallback SCSV",
        "Session renegotiation not supported",
        "TLSv1.3 not vulnerable to heartbleed",
        "TLSv1.2 not vulnerable to heartbleed",
    ] {
        assert!(words.iter().any(|found| found == line), "{line}\n{said}");
    }
    let ciphers = said.lines().filter(|line| line.starts_with("Preferred") || line.starts_with("Accepted"));
    let ciphers: Vec<_> = ciphers.map(|line| line.split_whitespace().nth(4).unwrap()).collect();
    let expected = [
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_GCM_SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES256-SHA384",
        "ECDHE-RSA-AES128-SHA256",
    ];
    assert_eq!(ciphers, expected, "the documented lists, in their order");
}

/// Checks that speak of what the profile wants, not of a fault: the documented cipher list has CBC suites, whose
/// timing OpenSSL has evened out since 1.0.1e.
const EXPECTED: [&str; 1] = ["LUCKY13"];

/// The findings of testssl.sh.
fn testssl(address: SocketAddr, report: &Path) -> Vec<Value> {
    let mut command = Command::new("testssl");
    command.args(["--color", "0", "--warnings", "batch", "--openssl-timeout", "60", "--quiet"]);
    command.args(["-p", "-s", "-f", "-U"]).arg("--jsonfile").arg(report).arg(address.to_string());
    let outcome = Outcome::of(&mut command);
    let text = std::fs::read_to_string(report).unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
    serde_json::from_str(&text).unwrap()
}

/// How bad a finding is.
fn rank(finding: &Value) -> usize {
    let severities = ["OK", "INFO", "LOW", "MEDIUM", "HIGH", "CRITICAL"];
    let severity = finding["severity"].as_str().unwrap();
    severities.iter().position(|known| *known == severity).unwrap_or(severities.len())
}

/// It finds no vulnerability.
#[test]
fn testssl_finds_no_more_than_with_nginx() {
    let site = Site::pve();
    let (gate, nginx) = (Nodegate::start(&site, &[]), Nginx::start(&site));
    let (findings, compared) = std::thread::scope(|scope| {
        let own = scope.spawn(|| testssl(gate.address(), &site.path("/own.json")));
        let other = testssl(nginx.address, &site.path("/nginx.json"));
        (own.join().unwrap(), other)
    });
    let text = serde_json::to_string_pretty(&findings).unwrap();
    let finding = |id: &str| {
        // testssl.sh 3.2 renamed PFS to FS.
        let is_it = |finding: &&Value| finding["id"] == id || id == "PFS" && finding["id"] == "FS";
        let found = findings.iter().find(is_it);
        let found = found.unwrap_or_else(|| panic!("no {id} in {text}"));
        (found["severity"].as_str().unwrap(), found["finding"].as_str().unwrap())
    };
    for (id, expected) in [
        ("SSLv2", "not offered"),
        ("SSLv3", "not offered"),
        ("TLS1", "not offered"),
        ("TLS1_1", "not offered"),
        ("TLS1_2", "offered"),
        ("TLS1_3", "offered with final"),
        ("secure_renego", "supported"),
        ("secure_client_renego", "not vulnerable"),
        ("CRIME_TLS", "not vulnerable"),
        ("PFS", "offered"),
    ] {
        assert_eq!(finding(id).1, expected, "{id}");
    }
    for finding in &findings {
        let (id, severity) = (finding["id"].as_str().unwrap(), finding["severity"].as_str().unwrap());
        if !EXPECTED.contains(&id) && finding["cve"].is_string() {
            assert!(matches!(severity, "OK" | "INFO"), "{finding}");
        }
        assert!(!matches!(severity, "HIGH" | "CRITICAL" | "FATAL"), "{finding}");
    }
    assert!(findings.iter().filter(|finding| finding["cve"].is_string()).count() >= 12, "{text}");
    let mut pairs = 0;
    for own in &findings {
        let Some(other) = compared.iter().find(|other| other["id"] == own["id"]) else { continue };
        assert!(rank(own) <= rank(other), "{own}\nwith nginx: {other}");
        pairs += 1;
    }
    assert!(pairs >= 40, "only {pairs} findings of both");
}

/// The report of sslyze, in words to compare: suites and curves that are accepted, and every yes and no.
fn sslyze(address: SocketAddr, report: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/bin/python");
    let scans = "sslv2 sslv3 tlsv1 tlsv1_1 tlsv1_2 tlsv1_3 reneg resum early_data compression heartbleed openssl_ccs \
        robot fallback elliptic_curves ems";
    let mut command = Command::new(python);
    command.args(["-m", "sslyze", "--quiet", "--mozilla_config=disable"]);
    command.args(scans.split_whitespace().map(|scan| format!("--{scan}")));
    command.arg(format!("--json_out={}", report.display())).arg(address.to_string());
    let outcome = Outcome::of(&mut command);
    let text = std::fs::read_to_string(report).unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
    let reported: Value = serde_json::from_str(&text).unwrap();
    let scans = reported["server_scan_results"][0]["scan_result"].as_object().unwrap();
    let done = scans.iter().filter(|(_, scan)| scan["status"] == "COMPLETED");
    done.flat_map(|(name, scan)| {
        scan["result"]
            .as_object()
            .unwrap()
            .iter()
            .map(move |(key, value)| (format!("{name}.{key}"), words(value)))
    })
    .collect()
}

fn words(value: &Value) -> BTreeSet<String> {
    let name = |item: &Value| {
        let named = [&item["cipher_suite"]["name"], &item["name"]].into_iter().find_map(Value::as_str);
        named.map(str::to_owned)
    };
    match value {
        Value::Array(items) => items.iter().filter_map(name).collect(),
        Value::Bool(_) | Value::String(_) => BTreeSet::from([value.to_string()]),
        Value::Null | Value::Number(_) | Value::Object(_) => BTreeSet::new(),
    }
}

#[test]
fn sslyze_finds_nothing_worse_than_with_nginx() {
    let site = Site::pve();
    let (gate, nginx) = (Nodegate::start(&site, &[]), Nginx::start(&site));
    let own = sslyze(gate.address(), &site.path("/own.json"));
    let other = sslyze(nginx.address, &site.path("/nginx.json"));
    let is = |key: &str, expected: &str| assert_eq!(own[key], BTreeSet::from([expected.to_owned()]), "{key}");
    for version in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
        is(&format!("{version}_cipher_suites.is_tls_version_supported"), "false");
    }
    is("tls_compression.supports_compression", "false");
    is("tls_1_3_early_data.supports_early_data", "false");
    is("heartbleed.is_vulnerable_to_heartbleed", "false");
    is("openssl_ccs_injection.is_vulnerable_to_ccs_injection", "false");
    is("session_renegotiation.is_vulnerable_to_client_renegotiation_dos", "false");
    is("session_renegotiation.supports_secure_renegotiation", "true");
    is("tls_fallback_scsv.supports_fallback_scsv", "true");
    is("tls_extended_master_secret.supports_ems_extension", "true");
    is("robot.robot_result", "\"NOT_VULNERABLE_RSA_NOT_SUPPORTED\"");
    is("session_resumption.tls_ticket_resumption_result", "\"FULLY_SUPPORTED\"");
    for key in
        ["tls_1_2_cipher_suites.accepted_cipher_suites", "tls_1_3_cipher_suites.accepted_cipher_suites"]
    {
        assert_eq!(own[key], other[key], "{key}");
        assert!(own[key].len() >= 3, "{key}");
    }
    let curves = "elliptic_curves.supported_curves";
    assert!(own[curves].is_subset(&other[curves]), "{:?} {:?}", own[curves], other[curves]);
}
