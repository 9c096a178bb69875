//! Bytes that two parties could read differently. Whatever nodegate reads as one request, nobody in front may have
//! read as two, or as a part of one.

mod cases;
mod direct;
mod fronts;

use cases::Case;

use crate::support::Site;

/// The lines of a good login, so that whatever is read as a request reaches the daemon.
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
