//! Sizes that are settings, and their messages.

use super::{LOGIN, VERSION, verified};
use crate::support::{Nodegate, Outcome, Site};

#[test]
fn a_url_has_a_maximum_length() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["limits.uri_bytes=300"]);
    let url = |length: usize| format!("{VERSION}?{}", "x".repeat(length - VERSION.len() - 1));
    assert_eq!(gate.get(&url(300), &site.cookie("root@pam")).status, 200);
    let reply = gate.get(&url(301), &site.cookie("root@pam"));
    let reason = "URL too long: path and query may have 300 bytes";
    assert_eq!((reply.status, reply.reason.as_str()), (414, reason));
    assert_eq!(reply.json()["message"], reason);
    let text = gate.get(&format!("/{}", "x".repeat(300)), "");
    assert_eq!((text.status, text.text().trim_end()), (414, reason));
    let extjs = gate.get(&url(301).replace("json", "extjs"), "");
    assert_eq!((extjs.status, &extjs.json()["status"]), (200, &414.into()));
    let by_default = Nodegate::start(&site, &[]);
    assert_eq!(by_default.get(&format!("/{}", "x".repeat(32_767)), "").status, 404);
    assert_eq!(by_default.get(&format!("/{}", "x".repeat(32_768)), "").status, 414);
}

#[test]
fn an_invalid_limit_names_its_key() {
    let site = Site::pve();
    for (set, message) in [
        ("timeout.body=0", "timeout.body: must be a whole number from 1 to 86400, not '0'"),
        ("timeout.write=x", "timeout.write: must be a whole number from 1 to 86400, not 'x'"),
        ("timeout.first_byte=-1", "timeout.first_byte: must be a whole number from 0 to 86400, not '-1'"),
        ("timeout.handshake=1d", "timeout.handshake: must be a whole number from 0 to 86400, not '1d'"),
        ("limits.uri_bytes=100", "limits.uri_bytes: must be a whole number from 256 to 65534, not '100'"),
        (
            "limits.request_body_min_rate=fast",
            "limits.request_body_min_rate: must be a whole number from 0 to 1073741824, not 'fast'",
        ),
        ("limits.uploads=0", "limits.uploads: must be a whole number from 1 to 65536, not '0'"),
        ("limits.connections=-5", "limits.connections: must be a whole number from 0 to 1048576, not '-5'"),
    ] {
        let outcome = Outcome::check(&site, &[set]);
        assert_eq!(outcome.code, 1, "{set}");
        outcome.complains(&format!("--set: {message}"));
    }
}

#[test]
fn limits_hold_for_calls_without_login_too() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["limits.body=100"]);
    let reply = gate.request("POST", LOGIN, "", &[b'a'; 101]);
    assert_eq!((reply.status, verified(&site)), (413, 0));
}
