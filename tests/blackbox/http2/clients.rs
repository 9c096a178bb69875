//! Real clients: curl and h2load.

use std::process::Command;

use nodegate_standin::content;

use super::wire::{END_HEADERS, HEADERS, RST_STREAM, STATUS_200, Wire, request, text};
use super::{VERSION, curl, start};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};
use crate::upload;

/// The two header lines of a login, as curl takes them.
fn login(site: &Site) -> [String; 2] {
    [site.cookie("root@pam"), site.csrf("root@pam")].map(|line| line.trim_end().to_owned())
}

/// curl falls back to HTTP/1.1.
#[test]
fn http_2_is_off_by_default() {
    let site = Site::pve();
    let [cookie, _] = login(&site);
    let gate = Nodegate::start(&site, &[]);
    let got = curl(&gate, VERSION, &["-H", &cookie]);
    assert_eq!((got.status.as_str(), got.version.as_str()), ("200", "1.1"));
    let gate = start(&site, &[]);
    let got = curl(&gate, VERSION, &["-H", &cookie]);
    assert_eq!((got.status.as_str(), got.version.as_str()), ("200", "2"));
    let got = curl(&gate, VERSION, &["--http1.1", "-H", &cookie]);
    assert_eq!((got.status.as_str(), got.version.as_str()), ("200", "1.1"));
}

#[test]
fn curl_logs_in_reads_writes_and_uploads() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let got = curl(&gate, "/api2/json/access/ticket", &["-d", "username=root@pam&password=demo"]);
    assert_eq!(got.status, "200");
    let told: serde_json::Value = serde_json::from_str(&got.body).unwrap();
    let ticket = told["data"]["ticket"].as_str().unwrap();
    let cookie = format!("PVEAuthCookie={ticket}");
    let csrf = format!("CSRFPreventionToken: {}", told["data"]["CSRFPreventionToken"].as_str().unwrap());
    assert_eq!(curl(&gate, VERSION, &["-b", &cookie]).status, "200");
    let sent = site.daemon.last();
    assert_eq!((sent.version.as_str(), sent.all("host").len()), ("HTTP/1.1", 1));
    assert_eq!(sent.header("host"), Some(&*format!("127.0.0.1:{}", gate.port())));
    let echo = "/api2/json/standin/echo";
    let got = curl(&gate, echo, &["-b", &cookie, "-H", &csrf, "-d", "a=1"]);
    assert_eq!((got.status.as_str(), site.daemon.last().text().as_str()), ("200", "a=1"));
    assert_eq!(curl(&gate, echo, &["-b", &cookie, "-d", "a=1"]).status, "401");
    let file = site.path("/tmp/image");
    let bytes = upload::noise(15_000_000);
    std::fs::write(&file, &bytes).unwrap();
    let form = format!("filename=@{};filename=a.iso", file.display());
    let got = curl(&gate, upload::PATH, &["-b", &cookie, "-H", &csrf, "-F", "content=iso", "-F", &form]);
    assert_eq!(got.status, "200", "{got:?}");
    assert!(site.daemon.last().upload.unwrap() == bytes);
    assert_eq!(upload::spool_files(&site), 0);
}

#[test]
fn bodies_of_every_size_arrive_whole() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let [cookie, _] = login(&site);
    for (kind, size) in [
        ("big", 0),
        ("big", 1),
        ("big", 16_384),
        ("big", 65_535),
        ("big", 3_000_000),
        ("until-close", 70_000),
    ] {
        let file = site.path("/tmp/answer");
        let path = format!("/api2/json/standin/{kind}?size={size}");
        let output = Command::new("curl")
            .args(["-sk", "--http2", "--max-time", "60", "-H", &cookie, "-o"])
            .arg(&file)
            .arg(format!("https://127.0.0.1:{}{path}", gate.port()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(std::fs::read(&file).unwrap_or_default() == content(size), "{kind} {size}");
    }
    let head = curl(&gate, "/api2/json/standin/big?size=500", &["-H", &cookie, "-I"]);
    assert_eq!(
        (head.status.as_str(), head.header("content-length"), head.body.as_str()),
        ("200", Some("500"), "")
    );
}

#[test]
fn reasons_travel_in_header_or_empty_body() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let [cookie, _] = login(&site);
    let got = curl(&gate, "/api2/json/standin/reason?status=595&text=x%20y", &["-H", &cookie]);
    assert_eq!((got.status.as_str(), got.header("status-message")), ("595", Some("x y")));
    let got = curl(&gate, "/api2/json/nodes/nowhere/status", &["-H", &cookie]);
    let reason = "no such node 'nowhere'";
    assert!(got.header("status-message").is_some_and(|told| told.starts_with(reason)), "{got:?}");
    assert!(got.body.contains(reason));
    let got = curl(&gate, VERSION, &["-H", &cookie]);
    assert_eq!(got.header("status-message"), None, "OK says nothing new");
    // The daemon refuses this with a reason and no body.
    let got = curl(
        &gate,
        "/api2/json/standin/raw?text=HTTP/1.1%20501%20not%20here%0D%0AContent-Length:%200%0D%0A%0D%0A",
        &["-H", &cookie],
    );
    assert_eq!((got.status.as_str(), got.header("status-message")), ("501", Some("not here")), "{got:?}");
    assert_eq!(got.body, r#"{"data":null,"message":"not here"}"#);
}

/// The log names the version.
#[test]
fn responses_have_no_connection_headers() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let [cookie, _] = login(&site);
    for path in [VERSION, "/nowhere", "/api2/json/access/users"] {
        let got = curl(&gate, path, &["-H", &cookie]);
        for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
            assert_eq!(got.header(name), None, "{path}: {}", got.head);
        }
        assert!(got.header("date").is_some() && got.header("server").is_some(), "{}", got.head);
    }
    eventually("the log has it", || site.access_log().contains("\"GET /api2/json/version HTTP/2.0\" 200 "));
}

/// The host has to be the authority.
#[test]
fn cookie_crumbs_are_joined() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let ticket = format!("PVEAuthCookie={}", site.ticket("root@pam"));
    let mut wire = Wire::connect(&gate, &[]);
    wire.get(1, VERSION, &[("cookie", "PVELangCookie=de"), ("cookie", &ticket), ("cookie", "x=y")]);
    assert_eq!(wire.wait_for(HEADERS, 1).payload[0], STATUS_200);
    wire.get(3, VERSION, &[("cookie", &ticket), ("host", "LOCALHOST")]);
    assert_eq!(wire.wait_for(HEADERS, 3).payload[0], STATUS_200);
    let before = site.daemon.requests().len();
    wire.get(5, VERSION, &[("cookie", &ticket), ("host", "elsewhere")]);
    let refused = wire.wait_for(HEADERS, 5);
    assert_eq!((refused.flags & END_HEADERS, site.daemon.requests().len()), (END_HEADERS, before));
    // 400 is in HPACK's own table as well.
    assert_eq!(refused.payload[0], 0x8c);
}

#[test]
fn http_2_opens_no_tunnel_and_no_console() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let ticket = format!("PVEAuthCookie={}", site.ticket("root@pam"));
    let mut wire = Wire::connect(&gate, &[]);
    let pseudo = [(":method", "CONNECT"), (":authority", "127.0.0.1:85")];
    let block = |lines: &[(&str, &str)]| -> Vec<u8> {
        lines.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
    };
    wire.frame(HEADERS, END_HEADERS, 1, &block(&pseudo));
    assert_ne!(wire.wait_for(HEADERS, 1).payload[0], STATUS_200);
    // RFC 8441 is not offered.
    let extended = request(
        "CONNECT",
        "/api2/json/nodes/node1/qemu/100/vncwebsocket?port=5900&vncticket=x",
        &[("cookie", &ticket)],
    );
    let extended = [&extended[..], &block(&[(":protocol", "websocket")])].concat();
    let mut wire = Wire::connect(&gate, &[]);
    wire.frame(HEADERS, END_HEADERS, 1, &extended);
    let refused = loop {
        match wire.next() {
            Some(frame) if frame.stream == 1 => {
                break frame.kind == RST_STREAM || frame.payload[0] != STATUS_200;
            }
            Some(_) => (),
            None => break true,
        }
    };
    assert!(refused);
    // The headers that open a websocket over HTTP/1.1 are not allowed at all.
    let mut wire = Wire::connect(&gate, &[]);
    let path = "/api2/json/nodes/node1/qemu/100/vncwebsocket?port=5900&vncticket=x";
    wire.get(1, path, &[("cookie", &ticket), ("connection", "upgrade"), ("upgrade", "websocket")]);
    wire.wait_for(RST_STREAM, 1);
    assert_eq!(site.daemon.requests().len(), 0);
}

#[test]
fn the_tunnel_port_never_offers_http_2() {
    let site = Site::pve();
    let gate = Nodegate::start_profile(&site, "spice", &["http2=true"]);
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &gate.local().to_string(), "-alpn", "h2,http/1.1"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("Cipher is") && !said.contains("ALPN protocol: h2"), "{said}");
}

#[test]
fn h2load_is_served_by_many_streams() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let [cookie, _] = login(&site);
    let output = Command::new("h2load")
        .args(["-n", "3000", "-c", "10", "-m", "8", "-H", &cookie])
        .arg(format!("https://127.0.0.1:{}{VERSION}", gate.port()))
        .output()
        .expect("nghttp2-client is installed");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{told}");
    assert!(told.contains("Application protocol: h2"), "{told}");
    assert!(told.contains("status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{told}");
}
