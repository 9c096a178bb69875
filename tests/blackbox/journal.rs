//! The log in a real journal: fields for node, request, client and user.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::nodegate::{command, eventually, free_port};
use crate::support::{Session, Site, require_root};

/// A separate journal under a private `/run`. Ends when its input does, and prints the journal.
const MACHINE: &str = r#"
set -eu
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
/lib/systemd/systemd-journald 2>/dev/null & journal=$!
trap 'kill $journal' EXIT
until [ -S /run/systemd/journal/stdout ] && [ -S /run/systemd/journal/socket ]; do sleep 0.05; done
# What PID 1 does for a service.
systemd-cat bash -c 'JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec "$@"' bash "$@" & served=$!
read -r _ || true
kill $served || true
wait $served || true
journalctl --sync 2>/dev/null || sleep 1
journalctl -o json --no-pager _COMM=nodegate
"#;

/// The fields lead from a request to its client and user.
#[test]
fn journal_fields_name_client_and_user() {
    if !require_root("mount") {
        return;
    }
    let site = Site::pve();
    let port = free_port();
    let (root, listen) = (site.root().to_str().unwrap(), format!("listen.port={port}"));
    let nodegate = command(&["--root", root, "--debug", "--set", "node.name=node7", "--set", &listen]);
    let mut machine = Command::new("unshare");
    machine.args(["-m", "bash", "-c", MACHINE, "bash"]).arg(nodegate.get_program()).args(nodegate.get_args());
    machine.args(["--set", "listen.address=127.0.0.1", "--set", "backend.address=127.0.0.1:1", "run", "pve"]);
    let mut machine = machine.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let address = ([127, 0, 0, 1], port).into();
    eventually("it serves", || Session::try_tls(address).is_ok());
    let reply = Session::tls(address).request("GET", "/api2/json/version", &site.cookie("root@pam"), b"");
    assert_eq!(reply.status, 595);
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    let id = message.split(", request ").nth(1).unwrap();
    machine.stdin.take().unwrap().write_all(b"\n").unwrap();
    let output = machine.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |message: &str| entries.iter().find(|entry| entry["MESSAGE"] == message);
    let failed = find("request failed").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(failed["REQUEST"], id);
    assert_eq!((&failed["CLIENT"], &failed["USER"]), (&"127.0.0.1".into(), &"root@pam".into()));
    assert_eq!((&failed["NODE"], &failed["STATUS"]), (&"node7".into(), &"595".into()));
    assert_eq!(failed["PRIORITY"], "7");
    assert!(failed["TARGET"].as_str().unwrap().starts_with("nodegate::proxy::response_headers"), "{failed}");
    let listening =
        entries.iter().find(|entry| entry["MESSAGE"].as_str().unwrap().starts_with("listening on"));
    assert_eq!(listening.unwrap()["REQUEST"], Value::Null, "it is about no request");
}
