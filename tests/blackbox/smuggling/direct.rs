//! The corpus over a raw TLS connection: nodegate verified what the daemon saw, and read nothing else.

use super::cases::{CASES, Case, Reading};
use super::{bytes, login};
use crate::support::{Nodegate, Site};

/// How many answers came, and the status of the first; 100 is none.
fn answers(said: &str) -> (usize, u16) {
    let statuses = said.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok());
    let statuses: Vec<u16> = statuses.filter(|status| *status != 100).collect();
    (statuses.len(), statuses.first().copied().unwrap_or_default())
}

/// The error in how the case was read.
fn fault(site: &Site, gate: &Nodegate, case: &Case) -> Option<String> {
    site.daemon.clear();
    let sent = bytes(case, &login(site));
    let mut session = gate.connect();
    let _ = session.try_send(&sent);
    session.finish();
    let said = String::from_utf8_lossy(&session.rest()).into_owned();
    let seen = site.daemon.requests();
    let (count, status) = answers(&said);
    let bodies: Vec<_> = seen.iter().map(nodegate_standin::Recorded::text).collect();
    let is_second = |request: &nodegate_standin::Recorded| request.query() == "smuggled";
    let first_is = |body: &str| body == "*" || bodies.first().is_none_or(|first| first == body);
    let good = match case.reading {
        Reading::Refused => count <= 1 && seen.is_empty() && (count == 0 || (400..=505).contains(&status)),
        Reading::Once(body) => count == 1 && seen.len() <= 1 && !seen.iter().any(is_second) && first_is(body),
        Reading::Twice(body) => {
            count == 2 && seen.iter().filter(|it| is_second(it)).count() == 1 && first_is(body)
        }
    };
    (!good).then(|| {
        format!("{}: {:?}, but {count} answers ({status}), seen {bodies:?}", case.name, case.reading)
    })
}

/// Other programs read these bytes as a part of the first request.
#[test]
fn no_body_byte_becomes_a_second_request() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let faults: Vec<_> = CASES.iter().filter_map(|case| fault(&site, &gate, case)).collect();
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), CASES.len(), faults.join("\n"));
    assert_eq!(gate.get("/nope", "").status, 404);
}

#[test]
fn cases_read_the_same_byte_by_byte() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for name in ["CL.TE", "TE.CL", "TE in capitals", "a request as the body of a POST", "bare LF line ends"] {
        let case = CASES.iter().find(|case| case.name == name).unwrap();
        let sent = bytes(case, &login(&site));
        site.daemon.clear();
        let mut session = gate.connect();
        for byte in &sent {
            if session.try_send([*byte]).is_err() {
                break;
            }
        }
        session.finish();
        let (count, _) = answers(&String::from_utf8_lossy(&session.rest()));
        let expected = if matches!(case.reading, Reading::Twice(_)) { 2 } else { 1 };
        assert_eq!((count, site.daemon.requests().len()), (expected, expected), "{name}");
    }
}
