//! Fields that lead from a request to the logs of others.

use crate::support::{Nodegate, Site};

const VERSION: &str = "/api2/json/version";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A setting names the header for the daemon and the client.
#[test]
fn request_numbers_are_sent_by_setting() {
    let site = Site::pve();
    let cookie = format!("{}X-Request-Id: forged\r\n", site.cookie("root@pam"));
    let gate = Nodegate::start(&site, &[]);
    let reply = gate.get(VERSION, &cookie);
    assert_eq!((reply.status, reply.header("x-request-id")), (200, None));
    assert_eq!(site.daemon.last().header("x-request-id"), None);
    drop(gate);
    let gate = Nodegate::start(&site, &["trace.request_id_header=X-Request-Id"]);
    let reply = gate.get(VERSION, &cookie);
    let number = reply.header("x-request-id").unwrap();
    assert!(number.contains('-') && number != "forged", "{number}");
    assert_eq!(site.daemon.last().header("x-request-id"), Some(number));
    assert!(gate.get("/nope", "").header("x-request-id").is_some_and(|other| other != number));
}

#[test]
fn only_valid_traceparents_reach_the_daemon() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let seen = |value: &str| {
        let headers = format!("{}traceparent: {value}\r\ntracestate: a=b\r\n", site.cookie("root@pam"));
        assert_eq!(gate.get(VERSION, &headers).status, 200);
        let last = site.daemon.last();
        assert_eq!(last.header("tracestate"), None);
        last.header("traceparent").map(str::to_owned)
    };
    assert_eq!(seen(PARENT).as_deref(), Some(PARENT));
    assert_eq!(seen(&PARENT.to_uppercase()), None);
    assert_eq!(seen(&format!("{PARENT}-x")), None);
    assert_eq!(seen("00-0"), None);
    drop(gate);
    let gate = Nodegate::start(&site, &["trace.traceparent=0"]);
    let headers = format!("{}traceparent: {PARENT}\r\n", site.cookie("root@pam"));
    assert_eq!(gate.get(VERSION, &headers).status, 200);
    assert_eq!(site.daemon.last().header("traceparent"), None);
}
