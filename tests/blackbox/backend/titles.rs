//! Titles of API answers in HTML: the proxy's own for what needs no root, the daemon's for the rest.

use crate::support::{Nodegate, Site};

fn title(gate: &Nodegate, path: &str, headers: &str) -> String {
    let reply = gate.get(path, headers);
    assert!(reply.header("content-encoding").is_none());
    let text = reply.text();
    let (_, rest) = text.split_once("<title>").unwrap_or_else(|| panic!("{path}: {} {text}", reply.status));
    rest.split_once("</title>").unwrap().0.to_owned()
}

#[test]
fn unprotected_calls_have_the_proxys_title() {
    for (site, name, protected) in [
        (Site::pve(), "Proxmox VE API", "/api2/html/nodes/node1/rrd"),
        (Site::pmg(), "Proxmox Mail Gateway API", "/api2/html/nodes/node1/certificates/info"),
    ] {
        let cookie = site.cookie("root@pam") + "Accept-Encoding: gzip\r\n";
        let gate = Nodegate::start(&site, &["compression.enabled=1"]);
        assert_eq!(title(&gate, "/api2/html/version", &cookie), name);
        assert!(site.daemon.last().header("accept-encoding").is_none(), "what is changed is not compressed");
        assert_eq!(title(&gate, "/api2/html/access/ticket", ""), name);
        // A call that needs root keeps the daemon's title in every response.
        let kept = title(&gate, protected, &cookie);
        assert!(["Error", "Standin API"].contains(&kept.as_str()), "{kept}");
        // Other formats stay unchanged.
        assert!(gate.get("/api2/json/version", &cookie).text().contains("\"version\""));
        let backend = format!("backend.unprivileged={}", site.daemon.address());
        let gate = Nodegate::start(&site, &[&backend]);
        assert_eq!(title(&gate, "/api2/html/version", &cookie), "Standin API");
    }
}

#[test]
fn a_streamed_page_is_titled_as_well() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let beginning = "<html><title>daemon</title><a class=\"navbar-brand\" href=\"/\">daemon</a>";
    for rest in [100, 9_000] {
        let page = format!("{beginning}{}", "x".repeat(rest));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{page}");
        let text = percent_encoding::utf8_percent_encode(&answer, percent_encoding::NON_ALPHANUMERIC);
        let reply = gate.get(&format!("/api2/html/nodes/node1/standin/raw?text={text}"), &cookie);
        let expected = page.replace(">daemon<", ">Proxmox VE API<");
        assert_eq!((reply.status, reply.text()), (200, expected), "{rest}");
    }
}
