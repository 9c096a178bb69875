//! Bytes that two parties could read differently. If nodegate reads them as one request, no front may have read them
//! as two, or as a part of one.

mod cases;
mod direct;
mod fronts;

use cases::Case;

use crate::support::Site;

/// The lines of a valid login, so that each request that nodegate reads reaches the daemon.
fn login(site: &Site) -> String {
    site.cookie("root@pam") + &site.csrf("root@pam")
}

/// A case as it is sent: its own bytes, with a whole request behind or within them that asks for `smuggled`.
fn bytes(case: &Case, login: &str) -> Vec<u8> {
    let second = format!("GET /api2/json/standin/echo?smuggled HTTP/1.1\r\nHost: node1\r\n{login}\r\n");
    let sent = case.bytes.replace("{login}", login).replace("{second}", &second);
    let sent = sent.replace("{second-length}", &second.len().to_string());
    sent.replace("{second-hex}", &format!("{:x}", second.len())).into_bytes()
}
