//! A worker that panics.

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site, all_at_once};

const VERSION: &str = "/api2/json/version";

#[test]
fn a_panic_ends_only_its_connection() {
    let site = Site::pve();
    let mut command = Nodegate::prepared(&site, "pve", &["workers=1"]);
    let gate = Nodegate::spawn(command.env("FAULT_PANIC_AT", "/panic"));
    let cookie = site.cookie("root@pam");
    let mut bystander = gate.connect();
    assert_eq!(bystander.request("GET", VERSION, &cookie, b"").status, 200);
    all_at_once(&[(); 20], |()| {
        let mut session = gate.connect();
        assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
        session.send("GET /panic HTTP/1.1\r\nHost: node1\r\n\r\n");
        assert!(session.try_reply(false).is_none(), "it ends without an answer");
    });
    assert_eq!(bystander.request("GET", VERSION, &cookie, b"").status, 200);
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
    eventually("the log tells of it", || gate.stderr().matches("panicked at").count() == 20);
    assert!(gate.stop().success(), "nobody waits for the connections that are gone");
}
