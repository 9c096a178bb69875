//! Calls that need no login: the exact decoded path, and no credential goes along.

use super::Attempt;
use crate::support::{Nodegate, Site, all_at_once};

#[test]
fn open_calls_pass_and_their_credential_is_dropped() {
    let pve = [
        ("GET", "/access/domains"),
        ("HEAD", "/access/domains"),
        ("POST", "/access/openid/auth-url"),
        ("POST", "/access/openid/login"),
        ("GET", "/access/ticket"),
        ("POST", "/access/ticket"),
        ("POST", "/access/vncticket"),
        ("POST", "/%61ccess/ticket"),
        ("POST", "/access%2Fticket"),
    ];
    let pmg = [
        ("GET", "/access/auth-realm"),
        ("POST", "/access/oidc/auth-url"),
        ("POST", "/access/oidc/login"),
        ("GET", "/access/ticket"),
        ("POST", "/access/ticket"),
        ("POST", "/access/vncticket"),
        ("POST", "/quarantine/sendlink"),
    ];
    for (site, calls) in [(Site::pve(), &pve[..]), (Site::pmg(), &pmg[..])] {
        let gate = Nodegate::start(&site, &[]);
        let good = site.cookie("root@pam") + &site.csrf("root@pam");
        for (method, path) in calls {
            for headers in ["", &good, "Cookie: PVEAuthCookie=x\r\nAuthorization: PMGAuthCookie=x\r\n"] {
                let path = format!("/api2/json{path}");
                Attempt::make(&site, &gate, method, &path, headers).assert_passes(&path);
                let seen = site.daemon.last();
                for name in ["cookie", "authorization", "csrfpreventiontoken"] {
                    assert!(seen.header(name).is_none(), "{method} {path}: {name} was sent on");
                }
            }
        }
    }
}

#[test]
fn paths_similar_to_open_ones_need_login() {
    let pve = [
        ("POST", "/access/ticket/"),
        ("POST", "//access/ticket"),
        ("POST", "/access//ticket"),
        ("POST", "/access/ticket%2F"),
        ("POST", "/access/%2Fticket"),
        ("POST", "/./access/ticket"),
        ("POST", "/x/../access/ticket"),
        ("POST", "/access/Ticket"),
        ("POST", "/access/ticket%20"),
        ("PUT", "/access/ticket"),
        ("DELETE", "/access/ticket"),
        ("POST", "/access/domains"),
        ("GET", "/access/vncticket"),
        ("GET", "/access/openid/login"),
        ("GET", "/access/auth-realm"),
        ("POST", "/quarantine/sendlink"),
        ("GET", "/access"),
        ("GET", ""),
        ("GET", "/version"),
    ];
    let pmg = [("GET", "/access/domains"), ("POST", "/access/openid/login"), ("POST", "/access/ticket/")];
    let (pve_site, pmg_site) = (Site::pve(), Site::pmg());
    let (pve_gate, pmg_gate) = (Nodegate::start(&pve_site, &[]), Nodegate::start(&pmg_site, &[]));
    let cases = pve.map(|case| (&pve_site, &pve_gate, case));
    let more = pmg.map(|case| (&pmg_site, &pmg_gate, case));
    let cases: Vec<_> = cases.into_iter().chain(more).collect();
    all_at_once(&cases, |(site, gate, (method, path))| {
        let path = format!("/api2/json{path}");
        Attempt::make(site, gate, method, &path, "").assert_refused("No ticket", &path);
    });
}
