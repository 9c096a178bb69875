//! Files from disk, over the wire.

use std::io::Read as _;

use crate::support::{Nodegate, Session, Site};

const JS: &str = "/usr/share/pve-manager/js/app.js";
const URL: &str = "/pve2/js/app.js";

fn script() -> String {
    "var answer = 42;\n".repeat(500)
}

#[test]
fn each_profile_has_its_directories_and_single_files() {
    let pve = Site::pve();
    for (file, url) in [
        (JS, URL),
        ("/usr/share/novnc-pve/app/ui.js", "/novnc/app/ui.js"),
        ("/usr/share/pve-docs/index.html", "/pve-docs/index.html"),
        ("/usr/share/javascript/extjs/x.js", "/pve-docs/api-viewer/extjs/x.js"),
        ("/usr/share/pve-i18n/pve-lang-de.js", "/pve2/locale/pve-lang-de.js"),
        ("/usr/share/pve-manager/images/favicon.ico", "/favicon.ico"),
        ("/usr/share/pve-manager/images/favicon.ico", "/pve2/images/favicon.ico"),
        ("/usr/share/javascript/proxmox-widget-toolkit/proxmoxlib.js", "/proxmoxlib.js"),
    ] {
        pve.write(file, url);
        let gate = Nodegate::start(&pve, &[]);
        assert_eq!(gate.get(url, "").text(), url);
    }
    let pmg = Site::pmg();
    for (file, url) in [
        ("/usr/share/javascript/pmg-gui/js/app.js", "/pve2/js/app.js"),
        ("/usr/share/pmg-mobile-quarantine-ui/a.css", "/mobile/a.css"),
        ("/usr/share/doc/pmg-api/favicon.ico", "/favicon.ico"),
    ] {
        pmg.write(file, url);
        let gate = Nodegate::start(&pmg, &[]);
        assert_eq!(gate.get(url, "").text(), url);
        assert_eq!(gate.get("/novnc/app/ui.js", "").status, 404);
    }
}

/// Where the products' daemons serve their files from.
const PVE_PLACES: &[(&str, &str)] = &[
    ("/novnc/", "novnc-pve"),
    ("/pve-docs/", "pve-docs"),
    ("/pve-docs/api-viewer/extjs/", "javascript/extjs"),
    ("/pve2/css/", "pve-manager/css"),
    ("/pve2/ext6/", "javascript/extjs"),
    ("/pve2/fa/css/", "fonts-font-awesome/css"),
    ("/pve2/fa/fonts/", "fonts-font-awesome/fonts"),
    ("/pve2/font-logos/", "fonts-font-logos"),
    ("/pve2/images/", "pve-manager/images"),
    ("/pve2/js/", "pve-manager/js"),
    ("/pve2/locale/", "pve-i18n"),
    ("/pwt/css/", "javascript/proxmox-widget-toolkit/css"),
    ("/pwt/images/", "javascript/proxmox-widget-toolkit/images"),
    ("/pwt/themes/", "javascript/proxmox-widget-toolkit/themes"),
    ("/xtermjs/", "pve-xtermjs"),
    ("/yew-mobile/", "pve-yew-mobile-gui"),
    ("/yew-mobile/i18n/", "pve-yew-mobile-i18n"),
    ("/bootstrap5/", "bootstrap-html"),
];
const PMG_PLACES: &[(&str, &str)] = &[
    ("/pve2/locale/", "pmg-i18n"),
    ("/pve2/ext6/", "javascript/extjs"),
    ("/pve2/images/", "javascript/pmg-gui/images"),
    ("/pve2/css/", "javascript/pmg-gui/css"),
    ("/pve2/js/", "javascript/pmg-gui/js"),
    ("/mobile/", "pmg-mobile-quarantine-ui"),
    ("/mobile/css/", "pmg-mobile-quarantine-ui/css"),
    ("/mobile/fonts/", "pmg-mobile-quarantine-ui/fonts"),
    ("/mobile/images/", "pmg-mobile-quarantine-ui/images"),
    ("/mobile/i18n/", "pmg-yew-quarantine-i18n"),
    ("/fontawesome/css/", "fonts-font-awesome/css"),
    ("/fontawesome/fonts/", "fonts-font-awesome/fonts"),
    ("/xtermjs/", "pve-xtermjs"),
    ("/pmg-docs/", "pmg-docs"),
    ("/pmg-docs/api-viewer/extjs/", "javascript/extjs"),
    ("/pwt/css/", "javascript/proxmox-widget-toolkit/css"),
    ("/pwt/images/", "javascript/proxmox-widget-toolkit/images"),
    ("/pwt/themes/", "javascript/proxmox-widget-toolkit/themes"),
    ("/bootstrap5/", "bootstrap-html"),
];

#[test]
fn every_directory_of_the_originals_is_served() {
    for (site, places) in [(Site::pve(), PVE_PLACES), (Site::pmg(), PMG_PLACES)] {
        let gate = Nodegate::start(&site, &[]);
        let mut session = gate.connect();
        let mut missing = Vec::new();
        for (url, directory) in places {
            site.write(&format!("/usr/share/{directory}/sub/x.js"), *directory);
            let reply = session.request("GET", &format!("{url}sub/x.js"), "", b"");
            if (reply.status, reply.text().as_str()) != (200, directory) {
                missing.push((url, reply.status));
            }
        }
        let file = "/usr/share/javascript/qrcodejs/qrcode.min.js";
        site.write(file, "qr");
        assert_eq!(session.request("GET", "/qrcode.min.js", "", b"").text(), "qr");
        assert!(missing.is_empty(), "{} {missing:?}", site.profile());
    }
}

#[test]
fn every_type_of_the_original_is_known() {
    let types = [
        ("css", "text/css", true),
        ("html", "text/html", true),
        ("js", "application/javascript", true),
        ("json map", "application/json", true),
        ("svg", "image/svg+xml", true),
        ("wasm", "application/wasm", true),
        ("mo", "application/x-gettext-translation", true),
        ("png", "image/png", false),
        ("ico", "image/x-icon", false),
        ("gif", "image/gif", false),
        ("jar", "application/java-archive", false),
        ("woff", "application/font-woff", false),
        ("woff2", "application/font-woff2", false),
        ("ttf", "font/ttf", false),
        ("pdf", "application/pdf", false),
        ("epub", "application/epub+zip", false),
        ("mp3", "audio/mpeg", false),
        ("oga", "audio/ogg", false),
        ("tgz", "application/x-compressed-tar", false),
        ("gz", "application/gzip", false),
    ];
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    for (endings, kind, compressed) in types {
        for ending in endings.split(' ') {
            site.write(&format!("/usr/share/pve-manager/js/a.{ending}"), script());
            let url = format!("/pve2/js/a.{ending}");
            let reply = session.request("GET", &url, "Accept-Encoding: gzip\r\n", b"");
            assert_eq!((reply.status, reply.header("content-type")), (200, Some(kind)), "{ending}");
            assert_eq!(reply.header("content-encoding").is_some(), compressed, "{ending}");
        }
    }
}

#[test]
fn a_file_has_a_type_and_no_login() {
    let site = Site::pve();
    for (name, kind) in [
        ("a.js", "application/javascript"),
        ("a.css", "text/css"),
        ("a.HTML", "text/html"),
        ("a.svg", "image/svg+xml"),
        ("a.png", "image/png"),
        ("a.woff2", "application/font-woff2"),
        ("a.unknown", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ] {
        site.write(&format!("/usr/share/pve-manager/js/{name}"), "x");
        let gate = Nodegate::start(&site, &[]);
        let reply = gate.get(&format!("/pve2/js/{name}?_dc=1"), "");
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(kind)), "{name}");
        assert!(reply.header("last-modified").is_some() && reply.header("etag").is_some());
        assert!(reply.header("pragma").is_none());
    }
}

#[test]
fn cached_files_are_not_sent_again() {
    let site = Site::pve();
    site.write(JS, script());
    site.age(JS, 5000);
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    let first = session.request("GET", URL, "", b"");
    let (tag, date) = (first.header("etag").unwrap(), first.header("last-modified").unwrap());
    let not_modified = [
        format!("If-None-Match: {tag}\r\n"),
        "If-None-Match: *\r\n".to_owned(),
        format!("If-None-Match: \"x\", W/{tag}\r\n"),
        format!("If-Modified-Since: {date}\r\n"),
    ];
    for headers in not_modified {
        let reply = session.request("GET", URL, &headers, b"");
        assert_eq!((reply.status, reply.header("etag")), (304, Some(tag)), "{headers}");
        assert!(reply.header("content-length").is_none_or(|length| length != "0"));
    }
    for headers in ["If-None-Match: \"x\"\r\n", "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n"] {
        assert_eq!(session.request("GET", URL, headers, b"").status, 200, "{headers}");
    }
    site.write(JS, "changed");
    let reply = session.request("GET", URL, &format!("If-None-Match: {tag}\r\n"), b"");
    assert_eq!((reply.status, reply.text().as_str()), (200, "changed"));
}

/// RFC 9110 section 13.1.
#[test]
fn another_version_of_a_file_is_a_412() {
    let site = Site::pve();
    site.write(JS, "content".repeat(500));
    let gate = Nodegate::start(&site, &[]);
    let whole = gate.get(URL, "Accept-Encoding: gzip\r\n");
    let (tag, date) = (whole.header("etag").unwrap(), whole.header("last-modified").unwrap());
    for fine in
        [format!("If-Match: \"x\", {tag}"), "If-Match: *".into(), format!("If-Unmodified-Since: {date}")]
    {
        assert_eq!(gate.get(URL, &format!("{fine}\r\nAccept-Encoding: gzip\r\n")).status, 200, "{fine}");
    }
    for other in ["If-Match: \"x\"", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"] {
        for method in ["GET", "HEAD"] {
            let reply = gate.request(method, URL, &format!("{other}\r\nRange: bytes=0-1\r\n"), b"");
            assert_eq!((reply.status, reply.header("etag")), (412, None), "{method} {other}");
        }
    }
}

/// As nginx and Caddy do, and as browsers do before they ask.
#[test]
fn dot_segments_lead_to_a_file() {
    let site = Site::pve();
    site.write(JS, "content");
    let gate = Nodegate::start(&site, &[]);
    for path in ["/pve2/x/../js/./app.js", "/%2e%2e/x", "/../etc/passwd", "/pve2/js/../../../etc/passwd"] {
        let expected = if path.ends_with("js") { 200 } else { 404 };
        assert_eq!(gate.get(path, "").status, expected, "{path}");
    }
    for path in ["/bar%", "/pve2/js/%zz.js"] {
        let reply = gate.get(path, "");
        assert_eq!((reply.status, reply.text().contains("hexadecimal digits")), (400, true), "{path}");
    }
}

/// A page names other URLs after an upgrade. Whether there is such a file is no matter of its version.
#[test]
fn versioned_files_may_be_kept() {
    for (site, profile_js) in [(Site::pve(), JS), (Site::pmg(), "/usr/share/javascript/pmg-gui/js/app.js")] {
        site.write(profile_js, script());
        let gate = Nodegate::start(&site, &[]);
        let kept = |query: &str, headers: &str| {
            let reply = gate.get(&format!("{URL}{query}"), headers);
            (reply.status, reply.header("cache-control").map(str::to_owned))
        };
        let month = Some("max-age=2592000, immutable".to_owned());
        for query in ["?ver=9.2.11", "?v=4.7.0", "?a=b&ver=1"] {
            for (headers, status) in [
                ("", 200),
                ("Accept-Encoding: gzip\r\n", 200),
                ("Range: bytes=0-1\r\n", 206),
                ("If-None-Match: *\r\n", 304),
            ] {
                assert_eq!(kept(query, headers), (status, month.clone()), "{query} {headers}");
            }
        }
        for query in ["", "?_dc=1", "?ver=", "?ver"] {
            assert_eq!(kept(query, ""), (200, None), "{query}");
        }
        let missing = gate.get("/pve2/js/missing.js?ver=1", "");
        assert_eq!((missing.status, missing.header("cache-control")), (404, Some("max-age=0")));
    }
}

#[test]
fn a_range_of_a_file_is_served() {
    let site = Site::pve();
    site.write(JS, "0123456789");
    let gate = Nodegate::start(&site, &[]);
    let get = |range: &str| gate.get(URL, &format!("Range: {range}\r\nAccept-Encoding: gzip\r\n"));
    for (range, body, sent) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
    ] {
        let reply = get(range);
        assert_eq!(
            (reply.status, reply.text().as_str(), reply.header("content-range")),
            (206, body, Some(sent))
        );
    }
    let beyond = get("bytes=10-");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */10")));
    assert_eq!(get("lines=1-2").status, 200);
    let head = gate.request("HEAD", URL, "Range: bytes=0-1\r\n", b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
}

#[test]
fn a_big_file_arrives_whole() {
    let site = Site::pve();
    let bytes = nodegate_standin::content(5_000_000);
    site.write("/usr/share/pve-manager/js/big.bin", &bytes);
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    for _ in 0..3 {
        assert!(session.request("GET", "/pve2/js/big.bin", "", b"").body == bytes);
    }
}

fn gunzip(bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.gz");
    std::fs::write(&path, bytes).unwrap();
    let mut child = std::process::Command::new("gzip")
        .arg("-dc")
        .arg(path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    text
}

#[test]
fn a_text_is_compressed_as_the_client_wants() {
    let site = Site::pve();
    site.write(JS, script());
    site.write("/usr/share/pve-manager/js/small.js", "x".repeat(1024));
    site.write("/usr/share/pve-manager/js/less-small.js", "x".repeat(1025));
    site.write("/usr/share/pve-manager/js/a.png", script());
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    for (accepted, coding) in [
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip", Some("gzip")),
        ("deflate", Some("deflate")),
        ("zstd", Some("zstd")),
        ("gzip;q=1, br;q=0.5", Some("gzip")),
        ("gzip;q=0", None),
        ("*;q=0, identity", None),
        ("rubbish", None),
    ] {
        let headers = format!("Accept-Encoding: {accepted}\r\n");
        let reply = session.request("GET", URL, &headers, b"");
        assert_eq!(reply.header("content-encoding"), coding, "{accepted}");
        assert!(reply.header("vary").is_some_and(|vary| vary.eq_ignore_ascii_case("accept-encoding")));
        assert_eq!(coding.is_some(), reply.body.len() < script().len(), "{accepted}");
        let head = session.request("HEAD", URL, &headers, b"");
        assert_eq!(head.header("content-length"), reply.header("content-length"), "{accepted}");
        if coding == Some("gzip") {
            assert_eq!(gunzip(&reply.body), script());
        }
    }
    for (path, is_coded) in
        [("/pve2/js/small.js", false), ("/pve2/js/less-small.js", true), ("/pve2/js/a.png", false)]
    {
        let reply = session.request("GET", path, "Accept-Encoding: gzip, br\r\n", b"");
        assert_eq!(reply.header("content-encoding").is_some(), is_coded, "{path}");
    }
    site.legacy("COMPRESSION=0\n");
    let gate = Nodegate::start(&site, &[]);
    let reply = gate.get(URL, "Accept-Encoding: gzip, br\r\n");
    assert_eq!((reply.header("content-encoding"), reply.text()), (None, script()));
}

#[test]
fn no_spelling_leads_out_of_a_directory() {
    let site = Site::pve();
    site.write(JS, "good");
    site.write("/usr/share/pve-manager/secret.js", "SECRET");
    site.write("/usr/share/pve-manager/js/.hidden.js", "SECRET");
    site.write("/usr/share/pve-manager/jsx/secret.js", "SECRET");
    let js = site.path("/usr/share/pve-manager/js");
    std::os::unix::fs::symlink("../secret.js", js.join("link.js")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", js.join("passwd.js")).unwrap();
    std::os::unix::fs::symlink("..", js.join("up")).unwrap();
    std::os::unix::fs::symlink("app.js", js.join("inside.js")).unwrap();
    nix::unistd::mkfifo(&js.join("fifo.js"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    for path in [
        "/pve2/js/../secret.js",
        "/pve2/js/%2e%2e/secret.js",
        "/pve2/js/..%2fsecret.js",
        "/pve2/js/%2e%2e%2fsecret.js",
        "/pve2/js/%252e%252e/secret.js",
        "/pve2/js/..%5csecret.js",
        "/pve2/js/..;/secret.js",
        "/pve2/js/.../secret.js",
        "/pve2/js/x/../../secret.js",
        "/pve2/js/./../secret.js",
        "/pve2/js//../secret.js",
        "/pve2/js//etc/passwd",
        "/pve2/js/%2fetc/passwd",
        "/pve2/jsx/secret.js",
        "/pve2/js/link.js",
        "/pve2/js/passwd.js",
        "/pve2/js/up/secret.js",
        "/pve2/js/fifo.js",
        "/pve2/js/app.js/",
        "/pve2/js/app.js/x",
        "/pve2/js",
        "/pve2/js/",
        "/pve2/js/up",
        "/PVE2/js/app.js",
        "//pve2/js/../secret.js",
        "/favicon.ico/../secret.js",
        "/api2/../pve2/js/../secret.js",
    ] {
        let reply = session.request("GET", path, "", b"");
        assert!(matches!(reply.status, 404 | 501), "{path}: {}", reply.status);
        assert!(!reply.text().contains("SECRET") && !reply.text().contains("root:"), "{path}");
    }
    for path in ["/pve2/js/%00app.js", "/pve2/js/app.js%00.png", "/pve2/js/\u{e9}%c0%ae%c0%ae/secret.js"] {
        let mut session: Session = gate.connect();
        assert_eq!(session.request("GET", path, "", b"").status, 400, "{path}");
    }
    assert_eq!(session.request("GET", "/pve2/js/inside.js", "", b"").text(), "good");
    assert_eq!(session.request("GET", "/pve2/js/%61pp%2ejs", "", b"").text(), "good");
}

#[test]
fn a_slow_reader_gets_a_compressed_file_whole() {
    let site = Site::pve();
    let mut seed = 1_u64;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"0123456789abcdef"[(seed >> 60) as usize]
    });
    site.write("/usr/share/pve-manager/js/noise.js", noise.take(24 << 20).collect::<Vec<_>>());
    let gate = Nodegate::start(&site, &["timeout.idle=1"]);
    let first = gate.get("/pve2/js/noise.js", "Accept-Encoding: gzip\r\n");
    let mut session = gate.connect();
    session.send("GET /pve2/js/noise.js HTTP/1.1\r\nHost: node1\r\nAccept-Encoding: gzip\r\n\r\n");
    std::thread::sleep(std::time::Duration::from_secs(4)); // longer than a connection may be idle
    let second = session.reply(false);
    assert_eq!((second.status, second.header("content-encoding")), (200, Some("gzip")));
    assert!(first.body.len() > 8 << 20 && second.body == first.body);
}
