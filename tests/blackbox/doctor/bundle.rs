//! The support bundle: what it holds, what it never holds, and how it is written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use flate2::read::GzDecoder;
use nodegate_standin::{API_TOKEN, now};
use serde_json::Value;

use super::doctor;
use super::system::SystemSite;
use crate::support::nodegate::{command, free_port};
use crate::support::{Nodegate, Outcome, Site};

const NAMES: [&str; 11] = [
    "access-log.txt",
    "check.txt",
    "doctor.json",
    "doctor.txt",
    "files.txt",
    "journal.txt",
    "profile.toml",
    "settings.json",
    "status.json",
    "units.txt",
    "versions.txt",
];

/// The entries by their names, without the folder.
fn entries(file: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(file).unwrap()));
    let entry = |entry: std::io::Result<tar::Entry<'_, GzDecoder<File>>>| {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o600);
        let name = entry.path().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    };
    archive.entries().unwrap().map(entry).collect()
}

/// A secret as it is, percent-encoded, and its end.
fn forms(secret: &str) -> Vec<String> {
    let encoded = secret.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace(':', "%3A");
    let end = secret.get(secret.len().saturating_sub(16)..).unwrap_or(secret);
    vec![secret.to_owned(), encoded, end.to_owned()]
}

#[track_caller]
fn assert_hidden(entries: &BTreeMap<String, Vec<u8>>, secrets: &[String]) {
    for form in secrets.iter().flat_map(|secret| forms(secret)) {
        for (name, bytes) in entries {
            let holds = bytes.windows(form.len()).any(|window| window == form.as_bytes());
            assert!(!holds, "{form} is in {name}:\n{}", String::from_utf8_lossy(bytes));
        }
    }
}

fn text(entries: &BTreeMap<String, Vec<u8>>, name: &str) -> String {
    String::from_utf8(entries[name].clone()).unwrap()
}

/// The lines between the marks of a PEM file.
fn lines_of(pem: &str) -> impl Iterator<Item = String> {
    pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned)
}

/// Secrets lie in key files, log lines, settings, units, the journal and the environment.
#[test]
fn no_secret_gets_into_a_bundle() {
    let system = SystemSite::new("root");
    let site = &system.site;
    let gate = Nodegate::spawn(command(&["--debug", "run", &system.profile]).current_dir("/"));
    let (ticket, csrf) = (site.ticket("root@pam"), site.keys.csrf("root@pam", now()));
    let vnc = site.keys.vnc_ticket("PVEVNC", "root@pam", "/vms/100", 5901, now());
    let spice = site.keys.spice_target("node1", 100, 61_999, now());
    let encoded = vnc.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace(':', "%3A");
    let token = API_TOKEN.split('=').nth(1).unwrap();
    let planted = |place: &str| format!("Planted-{place}-0123456789abcdef");
    site.write(
        "/log/access.log",
        format!(
            "::1 - root@pam [30/11/2026:10:00:00 +0000] \"GET /api2/json/version?anything={} HTTP/1.1\" 200 9\n\
             ::1 - - [30/11/2026:10:00:00 +0000] \"GET /x?vncticket={encoded}&port=5901 HTTP/1.1\" 101 -\n\
             ::1 - - \"CONNECT {spice} HTTP/1.1\" 200 -\nAuthorization: PVEAPIToken={API_TOKEN}\n\
             Cookie: PVEAuthCookie={ticket}\nCSRFPreventionToken: {csrf}\n",
            planted("query")
        ),
    );
    site.write(
        "/etc/default/trial",
        format!("ALLOW_FROM=\"password={}\"\nUNKNOWN_PASSWORD={}\n", planted("setting"), planted("legacy")),
    );
    system.program(
        "systemctl",
        &format!(
            "cat <<'END'\n# /etc/systemd/system/trialproxy.service.d/x.conf\n[Service]\nEnvironment=DB={} OTHER=1\n\
             ExecStart=/usr/bin/nodegate run trial --set 'x=https://admin:{}@proxy/'\nEND",
            planted("unit"),
            planted("url")
        ),
    );
    system.program(
        "journalctl",
        &format!(
            "cat <<'END'\nnodegate[7]: ticket '{ticket}' and {API_TOKEN}; password: {}\nEND",
            planted("journal")
        ),
    );
    let file = site.path("/b.tar.gz");
    let mut doctor = system.doctor();
    doctor.args(["--bundle", file.to_str().unwrap()]);
    doctor.args(["--set", &format!("backend.unprivileged=http://user:{}@127.0.0.1:9", planted("address"))]);
    doctor.env("SERVICE_PASSWORD", planted("variable"));
    doctor.env("NODEGATE_LISTEN__HOSTS", format!("name?secret={}", planted("value")));
    let outcome = Outcome::of(&mut doctor);
    let entries = entries(&file);
    assert_eq!(entries.keys().map(String::as_str).collect::<Vec<_>>(), NAMES, "{outcome:?}");

    let mut secrets: Vec<_> =
        ["query", "setting", "legacy", "unit", "url", "journal", "address", "variable", "value"]
            .map(planted)
            .into();
    secrets.extend([ticket, csrf, vnc, token.to_owned()]);
    secrets.push(spice.rsplit("::").next().unwrap().to_owned());
    let key = fs::read_to_string(site.path("/etc/pve/local/pve-ssl.key")).unwrap();
    secrets.extend(
        lines_of(&key).chain(lines_of(site.keys.secret_file())).chain(lines_of(&site.keys.private_pem())),
    );
    secrets.retain(|secret| secret.len() > 6);
    assert_hidden(&entries, &secrets);

    for (name, part) in [
        ("access-log.txt", "GET /api2/json/version?*** HTTP/1.1\" 200 9"),
        ("units.txt", "Environment=***"),
        ("units.txt", "https://admin:***@proxy/"),
        ("journal.txt", "nodegate[7]: ticket "),
        ("check.txt", "listen.port = "),
        ("versions.txt", concat!("nodegate ", env!("CARGO_PKG_VERSION"))),
        ("profile.toml", "daemon = \"trialproxy\""),
        ("files.txt", "/etc/pve/local/pve-ssl.key: 100"),
    ] {
        assert!(
            text(&entries, name).contains(part),
            "{part} is missing in {name}:\n{}",
            text(&entries, name)
        );
    }
    let status: Value = serde_json::from_str(&text(&entries, "status.json")).unwrap();
    assert_eq!(status["pid"], gate.pid());
    let report: Value = serde_json::from_str(&text(&entries, "doctor.json")).unwrap();
    assert!(report["findings"].as_array().unwrap().len() > 5, "{report:#}");
}

#[test]
fn a_bundle_is_private_and_replaces_no_file() {
    let site = Site::pve();
    let file = site.path("/out/b.tar.gz");
    fs::create_dir(site.path("/out")).unwrap();
    let write = || {
        let mut doctor = doctor(&site, free_port(), &[]);
        Outcome::of(doctor.arg("--bundle").arg(&file))
    };
    let first = write();
    assert!(first.stdout.contains("look into it before you send it"), "{first:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let status: Value = serde_json::from_str(&text(&entries(&file), "status.json")).unwrap();
    assert!(status["unknown"].is_string(), "nothing runs: {status}");
    let before = fs::read(&file).unwrap();
    let second = write();
    assert_eq!((second.code, second.stdout.as_str()), (1, ""), "it looks at nothing then");
    assert!(second.stderr.contains("it exists already"), "{second:?}");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(fs::read_dir(site.path("/out")).unwrap().count(), 1, "nothing is left beside it");
}

/// The bundle of a profile that cannot be loaded still has the report.
#[test]
fn a_broken_profile_still_gives_a_bundle() {
    let site = Site::pve();
    let file = site.path("/b.tar.gz");
    let mut doctor = command(&["doctor", "pvee", "--bundle"]);
    assert_eq!(Outcome::of(doctor.arg(&file)).code, 1);
    assert_eq!(entries(&file).into_keys().collect::<Vec<_>>(), ["doctor.json", "doctor.txt"]);
}
