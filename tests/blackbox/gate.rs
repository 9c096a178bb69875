//! Who passes, and who does not.

use std::time::{Duration, Instant};

use crate::support::{Nodegate, Site};

#[test]
fn a_ticket_reads_and_only_with_its_csrf_token_writes() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let reply = gate.get("/api2/json/version", &cookie);
    assert_eq!((reply.status, reply.json()["data"]["version"].as_str()), (200, Some("9.2.11")));
    let before = Instant::now();
    let reply = gate.request("PUT", "/api2/json/cluster/options", &cookie, b"a=1");
    assert_eq!((reply.status, reply.reason.as_str()), (401, "Permission denied - invalid csrf token"));
    assert!(before.elapsed() >= Duration::from_secs(3));
    let headers = cookie + &site.csrf("root@pam");
    assert_eq!(gate.request("PUT", "/api2/json/cluster/options", &headers, b"a=1").status, 200);
    assert_eq!(site.daemon.last().body, b"a=1");
}
