//! Pages: which template, which values, and that no value means anything in a page. The templates are made like the
//! products' own.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::{Duration, Instant, SystemTime};

use nodegate_standin::now;

use crate::support::nodegate::{eventually, wait_for_next_poll};
use crate::support::{Nodegate, Outcome, Reply, Site};

const PVE_INDEX: &str = "/usr/share/pve-manager/index.html.tpl";
const PVE_MOBILE: &str = "/usr/share/pve-yew-mobile-gui/index.html.tpl";
const NOVNC: &str = "/usr/share/novnc-pve/index.html.tpl";
const XTERMJS: &str = "/usr/share/pve-xtermjs/index.html.tpl";
const PMG_INDEX: &str = "/usr/share/javascript/pmg-gui/pmg-index.html.tt";
const PMG_MOBILE: &str = "/usr/share/pmg-mobile-quarantine-ui/pmg-mobile-index.html.tt";

const PVE_VARIABLES: &[&str] = &[
    "lang",
    "langfile",
    "username",
    "token",
    "theme",
    "console",
    "nodename",
    "arch",
    "debug",
    "version",
    "wtversion",
    "consenttext",
    "i18n_js_mtime",
    "i18n_yew_mobile_mtime",
    "yew_mobile_mtime",
    "yew_mobile_base_path",
];

/// A page of the kind that the products have: values in a title, links, attributes and scripts.
const REAL: &str = r#"<!DOCTYPE html>
<html>
  <head>
    <title>[% nodename %] - Virtual Environment</title>
    [% IF theme != "crisp" %]
    <link rel="stylesheet" type="text/css" href="/pwt/themes/theme-[% theme %].css?ver=[% wtversion %]" />
    [%- ELSE -%]
    <link rel="stylesheet" type="text/css" href="/pve2/ext6/crisp.css" />
    [%- END -%]
    [% IF langfile %]
    <script type='text/javascript' src='/pve2/locale/pve-lang-[% lang %].js?ver=[% version %]'></script>
    [%- ELSE %]
    <script type='text/javascript'>function gettext(buf) { return buf; }</script>
    [% END %]
    [%- IF debug %]
    <script type="text/javascript" src="/pve2/ext6/ext-all-debug.js"></script>
    [%- ELSE %]
    <script type="text/javascript" src="/pve2/ext6/ext-all.js"></script>
    [%- END %]
    <script type="text/javascript">
    Product = {
        defaultLang: '[% lang %]',
        NodeName: '[% nodename %]',
        UserName: '[% username %]',
        CSRFPreventionToken: '[% token %]',
        ConsentText: '[% consenttext %]',
    };
    </script>
  </head>
</html>
"#;

/// A template that names itself and shows every variable on a separate line.
fn listing(name: &str, variables: &[&str]) -> String {
    let lines: Vec<_> = variables.iter().map(|name| format!("{name}=[% {name} %]|\n")).collect();
    format!("template={name}|\n{}", lines.concat())
}

fn shown(reply: &Reply) -> BTreeMap<String, String> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let text = reply.text();
    let lines = text.split("|\n").filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn pve() -> Site {
    let site = Site::pve();
    for (path, name) in [(PVE_INDEX, "index"), (PVE_MOBILE, "mobile"), (NOVNC, "novnc"), (XTERMJS, "xtermjs")]
    {
        site.write(path, listing(name, PVE_VARIABLES));
    }
    site
}

fn pmg() -> Site {
    let site = Site::pmg();
    let variables = [PVE_VARIABLES, &["quarantinelink"]].concat();
    for (path, name) in [(PMG_INDEX, "index"), (PMG_MOBILE, "mobile"), (XTERMJS, "xtermjs")] {
        site.write(path, listing(name, &variables));
    }
    site
}

fn touch(site: &Site, path: &str, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    File::open(site.path(path)).unwrap().set_modified(time).unwrap();
}

#[test]
fn virtual_environment_page_keeps_its_values() {
    let site = pve();
    site.write(
        "/etc/pve/datacenter.cfg",
        "keyboard: de\nlanguage: de\nconsent-text: Only%20for%20staff%0A\n",
    );
    site.write("/usr/share/pve-i18n/pve-lang-fr.js", "x");
    site.write("/usr/share/pve-yew-mobile-i18n/x", "x");
    site.write(
        "/usr/share/perl5/PVE/pvecfg.pm",
        "package PVE::pvecfg;\n\nsub package {\n    return 'pve-manager';\n}\n\nsub version {\n    return '9.2.11';\n}\n",
    );
    site.write(
        "/usr/share/javascript/proxmox-widget-toolkit/proxmoxlib.js",
        "// v5.1.2-t1763000000\n// other\n",
    );
    touch(&site, "/usr/share/pve-i18n", 1_700_000_001);
    touch(&site, "/usr/share/pve-yew-mobile-i18n", 1_700_000_002);
    touch(&site, "/usr/share/pve-yew-mobile-gui", 1_700_000_003);
    let gate = Nodegate::start(&site, &[]);
    let reply = gate.get("/?debug=0", "");
    assert_eq!(reply.header("content-type"), Some("text/html; charset=UTF-8"));
    assert_eq!((reply.header("cache-control"), reply.header("pragma")), (Some("max-age=0"), None));
    let expected = [
        ("template", "index"),
        ("lang", "de"),
        ("langfile", ""),
        ("username", ""),
        ("token", "null"),
        ("theme", "auto"),
        ("console", ""),
        ("nodename", "node1"),
        ("arch", if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }),
        ("debug", "0"),
        ("version", "9.2.11"),
        ("wtversion", "v5.1.2-t1763000000"),
        ("consenttext", "Only%20for%20staff%0A"),
        ("i18n_js_mtime", "1700000001"),
        ("i18n_yew_mobile_mtime", "1700000002"),
        ("yew_mobile_mtime", "1700000003"),
        ("yew_mobile_base_path", "/yew-mobile"),
    ];
    let values = shown(&reply);
    for (name, value) in expected {
        assert_eq!(values[name], value, "{name}");
    }
    let cookie = site.cookie("root@pam").replace("\r\n", "");
    let before = now();
    let values =
        shown(&gate.get(
            "/?console=kvm&debug",
            &format!("{cookie}; PVELangCookie=fr; PVEThemeCookie=proxmox-dark\r\n"),
        ));
    let changed = [("lang", "fr"), ("langfile", "1"), ("username", "root@pam"), ("theme", "proxmox-dark")];
    for (name, value) in
        changed.into_iter().chain([("console", "kvm"), ("debug", "1"), ("template", "index")])
    {
        assert_eq!(values[name], value, "{name}");
    }
    assert!((before..=now()).any(|time| values["token"] == site.keys.csrf("root@pam", time)));
    // and with that token the page may write
    let headers = format!("{cookie}\r\nCSRFPreventionToken: {}\r\n", values["token"]);
    assert_eq!(gate.request("PUT", "/api2/json/cluster/options", &headers, b"a=1").status, 200);
    eventually("the user is logged", || site.access_log().contains(" - root@pam ["));
    // a file that changes is seen, and what is no longer there falls back
    site.write("/etc/pve/datacenter.cfg", "language: __default__\n");
    std::fs::remove_file(site.path("/usr/share/perl5/PVE/pvecfg.pm")).unwrap();
    site.write("/usr/share/pve-manager/js/pvemanagerlib.js", "x");
    touch(&site, "/usr/share/pve-manager/js/pvemanagerlib.js", 1_700_000_004);
    let values = shown(&gate.get("/", ""));
    assert_eq!((values["lang"].as_str(), values["consenttext"].as_str()), ("en", ""));
    assert_eq!(values["version"], "1700000004");
}

#[test]
fn mail_gateway_page_keeps_its_values() {
    let site = pmg();
    let config = "section: admin\n\tconsent-text TWFu+/8=\n\nsection: spamquar\n\tquarantinelink 1\n";
    site.write("/etc/pmg/pmg.conf", config);
    site.write("/usr/share/javascript/pmg-gui/js/pmgmanagerlib.js", "// 5.1.0\n");
    site.write("/usr/share/pmg-i18n/pmg-lang-zh_CN.js", "x");
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam").replace("\r\n", "");
    for path in ["/", "/quarantine"] {
        let values = shown(&gate.get(
            path,
            &format!("{cookie}; PMGLangCookie=zh_CN; PMGThemeCookie=crisp; PVELangCookie=de\r\n"),
        ));
        let expected = [
            ("template", "index"),
            ("lang", "zh_CN"),
            ("langfile", "1"),
            ("theme", "crisp"),
            ("username", "root@pam"),
            ("version", "5.1.0"),
            ("consenttext", "TWFu+/8="),
            ("quarantinelink", "1"),
            ("yew_mobile_base_path", "/mobile"),
        ];
        for (name, value) in expected {
            assert_eq!(values[name], value, "{path} {name}");
        }
    }
    std::fs::remove_file(site.path("/etc/pmg/pmg.conf")).unwrap();
    let values = shown(&gate.get("/", ""));
    assert_eq!((values["quarantinelink"].as_str(), values["lang"].as_str()), ("0", "en"));
}

const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148";
const ANDROID: &str = "Mozilla/5.0 (Linux; Android 15; Pixel 9) Chrome/140.0.0.0 Mobile Safari/537.36";
const TABLET: &str = "Mozilla/5.0 (Linux; Android 15; Tab S9) Chrome/140.0.0.0 Safari/537.36";
const SILK: &str = "Mozilla/5.0 (Linux; Android 9; KFMAWI) Silk/120.1 like Chrome/120 Mobile Safari/537.36";
const BLACKBERRY: &str = "Mozilla/5.0 (BB10; Touch) AppleWebKit/537.10+ Mobile Safari/537.10+";
const DESKTOP: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";

#[test]
fn the_template_follows_query_path_and_browser() {
    let site = pve();
    let gate = Nodegate::start(&site, &[]);
    let cases = [
        ("/", DESKTOP, "index"),
        ("/", IPHONE, "mobile"),
        ("/", ANDROID, "mobile"),
        ("/", TABLET, "index"),
        ("/", SILK, "index"),
        ("/", BLACKBERRY, "mobile"),
        ("/", "Windows Phone", "mobile"),
        ("/?mobile=1", DESKTOP, "mobile"),
        ("/?mobile=0", IPHONE, "index"),
        ("/?console=kvm&novnc=1&vmid=100&node=node1", DESKTOP, "novnc"),
        ("/?console=lxc&xtermjs=1", DESKTOP, "xtermjs"),
        ("/?console=kvm&novnc=1&xtermjs=1", IPHONE, "novnc"),
        ("/?console=kvm&novnc=0", DESKTOP, "index"),
        ("/?console=kvm", DESKTOP, "index"),
        ("/?novnc=1", DESKTOP, "index"),
        ("/?console=%3Cscript%3E&novnc=1", DESKTOP, "novnc"),
        ("/?console=&novnc=1", DESKTOP, "novnc"),
        ("/?console=&xtermjs=1", DESKTOP, "xtermjs"),
        ("/?console&novnc=1", DESKTOP, "index"),
        ("/?console=kvm&novnc", DESKTOP, "index"),
        ("/?mobile", DESKTOP, "index"),
        ("/?mobile", IPHONE, "mobile"),
        ("/?mobile=", IPHONE, "index"),
    ];
    for (path, agent, template) in cases {
        let values = shown(&gate.get(path, &format!("User-Agent: {agent}\r\n")));
        assert_eq!(values["template"], template, "{path} {agent}");
    }
    let site = pmg();
    let gate = Nodegate::start(&site, &[]);
    let cases = [
        ("/", IPHONE, "index"),
        ("/quarantine", DESKTOP, "index"),
        ("/quarantine", TABLET, "mobile"),
        ("/quarantine", "android", "mobile"),
        ("/quarantine?mobile=1", DESKTOP, "mobile"),
        ("/quarantine?mobile=0", ANDROID, "index"),
        ("/?console=shell&xtermjs=1", DESKTOP, "xtermjs"),
        ("/?console=&xtermjs=1", DESKTOP, "xtermjs"),
        ("/?console=kvm&novnc=1", DESKTOP, "index"),
        ("/quarantine?mobile", DESKTOP, "index"),
        ("/quarantine?mobile", IPHONE, "index"),
        ("/quarantine?mobile=", IPHONE, "index"),
    ];
    for (path, agent, template) in cases {
        let values = shown(&gate.get(path, &format!("User-Agent: {agent}\r\n")));
        assert_eq!(values["template"], template, "{path} {agent}");
    }
}

#[test]
fn pages_know_users_by_valid_cookies_only() {
    let site = pve();
    let gate = Nodegate::start(&site, &[]);
    let ticket = site.ticket("root@pam");
    let old = site.keys.ticket("PVE", "root@pam", now() - 7300);
    let half = site.keys.half_ticket("PVE", "root@pam", now());
    let forged = site.keys.old().ticket("PVE", "root@pam", now());
    let headers = [
        format!("Cookie: PVEAuthCookie={old}\r\n"),
        format!("Cookie: PVEAuthCookie={half}\r\n"),
        format!("Cookie: PVEAuthCookie={forged}\r\n"),
        format!("Cookie: PVEAuthCookie={}\r\n", &ticket[1..]),
        format!("Cookie: PMGAuthCookie={ticket}\r\n"),
        format!("Authorization: PVEAuthCookie={ticket}\r\n"),
        "Authorization: PVEAPIToken=root@pam!mon=f4b0a1c2-0000-4000-8000-000000000000\r\n".to_owned(),
    ];
    for headers in headers {
        let before = Instant::now();
        let values = shown(&gate.get("/", &headers));
        assert!(before.elapsed() < Duration::from_secs(3));
        assert_eq!((values["username"].as_str(), values["token"].as_str()), ("", "null"), "{headers}");
    }
    let values = shown(&gate.get(&format!("/?ticket={}", ticket.replace('+', "%2B")), ""));
    assert_eq!(values["username"], "");
    // keys that cannot be read: the page still comes, to say so
    std::fs::remove_file(site.path("/etc/pve/authkey.pub")).unwrap();
    wait_for_next_poll();
    assert_eq!(shown(&gate.get("/", &site.cookie("root@pam")))["token"], "null");
}

#[test]
fn the_quarantines_link_logs_in_without_a_cookie() {
    let site = pmg();
    let gate = Nodegate::start(&site, &[]);
    let mail = "joe+x@example.com";
    let user = format!("{mail}@quarantine");
    let ticket = site.keys.ticket("PMGQUAR", mail, now());
    let encoded = ticket.replace('%', "%25").replace('+', "%2B").replace('/', "%2F").replace(':', "%3A");
    let before = now();
    let values = shown(&gate.get(&format!("/quarantine?ticket={encoded}"), ""));
    assert_eq!(values["username"], r"joe\u002bx@example.com@quarantine");
    assert!((before..=now()).any(|time| values["token"] == site.keys.csrf(&user, time)));
    let from_cookie = shown(&gate.get("/quarantine", &format!("Cookie: PMGAuthCookie={encoded}\r\n")));
    assert_eq!(from_cookie["username"], values["username"]);
    let twice = encoded.replace('%', "%25");
    let values = shown(&gate.get(&format!("/quarantine?ticket={twice}"), ""));
    assert_eq!(values["username"], r"joe\u002bx@example.com@quarantine");
    let plus_left_alone = ticket.replace('%', "%25");
    let values = shown(&gate.get(&format!("/quarantine?ticket={plus_left_alone}"), ""));
    assert_eq!(values["username"], r"joe\u002bx@example.com@quarantine");
    // with any cookie the link is not looked at, and no other kind of ticket comes by link
    let values = shown(&gate.get(&format!("/quarantine?ticket={encoded}"), "Cookie: PMGLangCookie=de\r\n"));
    assert_eq!(values["username"], "");
    let admin = site.ticket("root@pam").replace('+', "%2B");
    assert_eq!(shown(&gate.get(&format!("/?ticket={admin}"), ""))["username"], "");
    eventually("the user is logged", || site.access_log().contains(&format!(" - {user} [")));
    assert!(!site.access_log().contains("PMGQUAR"), "{}", site.access_log());
}

/// Values of clients and files have no meaning in a page.
#[test]
fn page_values_are_escaped() {
    let site = pve();
    site.write(PVE_INDEX, REAL);
    site.write(NOVNC, REAL);
    let plain = {
        let gate = Nodegate::start(&site, &[]);
        gate.get("/?debug=0", "").text()
    };
    let quotes = |text: &str| text.matches(['\'', '"', '<', '>', '`', '\\']).count();
    let attack = "'\"</script><svg onload=alert(1)>`\\\u{2028}";
    site.write("/etc/pve/datacenter.cfg", format!("language: de'{attack}\nconsent-text: {attack}\n"));
    site.write("/usr/share/perl5/PVE/pvecfg.pm", format!("sub version {{ return \"{}\" }}", "';alert(1)//<"));
    site.write(
        "/usr/share/javascript/proxmox-widget-toolkit/proxmoxlib.js",
        b"// \xff'\"><script>\n".as_slice(),
    );
    let gate = Nodegate::start(&site, &[]);
    let raw = "'\"</script><svg/onload=alert(1)>";
    let encoded = "%27%22%3C%2Fscript%3E%3Csvg%20onload%3Dalert(1)%3E%E2%80%A8%0D%0A%60%5C";
    let double = "%2527%2522%253C";
    let long = "a".repeat(1_500);
    for value in [raw, encoded, double, "%ff%fe", "de%0A", "&quot;&#39;", long.as_str()] {
        let cookies =
            format!("Cookie: PVELangCookie={value}; PVEThemeCookie={value}; PVEAuthCookie={value}\r\n");
        let query = value.replace(['<', '>', '"', '\'', '#'], "%27");
        let path = format!("/?debug=0&console={query}&mobile=0&novnc={query}&lang={query}");
        let reply = gate.get(&path, &cookies);
        assert_eq!(reply.status, 200, "{value}: {}", reply.text());
        let page = reply.text();
        assert!(!page.contains(&long));
        assert_eq!(quotes(&page), quotes(&plain), "{value}\n{page}");
        assert!(!page.contains("onload") || page.contains("%20onload"), "{page}");
        assert!(page.is_ascii(), "{page}");
    }
    // a user whose name is legal and odd
    let page = gate.get("/?debug=0", &site.cookie("o'br\"<b>\\\u{fc}@ad")).text();
    assert!(page.contains(r"UserName: 'o\u0027br\u0022\u003cb\u003e\u005c\u00fc@ad',"), "{page}");
}

/// They answer HEAD as well.
#[test]
fn pages_compress_and_reject_post() {
    let site = pve();
    site.write(PVE_INDEX, format!("{REAL}<!-- {} -->", "more of it ".repeat(50)));
    let gate = Nodegate::start(&site, &[]);
    let plain = gate.get("/", "");
    assert!(plain.body.len() > 1024 && plain.header("content-encoding").is_none());
    for (accepted, coding) in [("gzip, deflate, br, zstd", "zstd"), ("gzip", "gzip"), ("br, zstd;q=0", "br")]
    {
        let reply = gate.get("/", &format!("Accept-Encoding: {accepted}\r\n"));
        assert_eq!((reply.status, reply.header("content-encoding")), (200, Some(coding)));
        assert!(reply.body.len() < plain.body.len());
    }
    let reply = gate.request("HEAD", "/", "", b"");
    assert_eq!((reply.status, reply.header("content-length")), (200, plain.header("content-length")));
    assert_eq!(gate.request("POST", "/", "", b"x").status, 405);
    // The page of a user holds a token beside reflected parameters.
    let ours = gate.get("/?console=kvm", &format!("Accept-Encoding: gzip\r\n{}", site.cookie("root@pam")));
    assert_eq!((ours.status, ours.header("content-encoding")), (200, None));
    assert!(ours.text().contains("CSRFPreventionToken: '"), "{}", ours.text());
    let gate = Nodegate::start(&site, &["compression.enabled=0"]);
    assert_eq!(gate.get("/", "Accept-Encoding: gzip\r\n").header("content-encoding"), None);
}

#[test]
fn a_broken_template_is_named_without_its_path() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let reply = gate.get("/", "");
    assert_eq!(reply.status, 500);
    let text = reply.text();
    let missing = "the template 'index.html.tpl' of this page is missing (is its package installed?); if it is, install ";
    assert!(text.starts_with(missing), "{text}");
    site.write(PVE_INDEX, "a\n[% PERL %]\n");
    let reply = gate.get("/", "");
    assert_eq!((reply.status, reply.header("content-type")), (500, Some("text/plain;charset=UTF-8")));
    let text = reply.text();
    assert!(text.starts_with("the template 'index.html.tpl' of this page, line 2: "), "{text}");
    assert!(text.contains("'PERL'"), "{text}");
    assert!(gate.stderr().contains("usr/share/pve-manager/index.html.tpl"));
    let reported = Outcome::ask(&site, &["check", "pve"]).stderr;
    assert!(reported.contains("index.html.tpl: line 2: ") && reported.contains("'PERL'"), "{reported}");
    site.write(PVE_INDEX, "now it works");
    assert_eq!(gate.get("/", "").text(), "now it works");
}

#[test]
fn html_login_failures_redirect_to_the_page() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    std::thread::scope(|scope| {
        for headers in ["", "Cookie: PVEAuthCookie=PVE:root@pam:0::x\r\n"] {
            let gate = &gate;
            scope.spawn(move || {
                let before = Instant::now();
                let reply = gate.get("/api2/html/nodes", headers);
                assert!(before.elapsed() >= Duration::from_secs(3));
                assert_eq!((reply.status, reply.header("location")), (301, Some("/api2/html/access/ticket")));
                assert_eq!(gate.get("/api2/json/nodes", headers).status, 401);
            });
        }
        scope.spawn(|| {
            let headers = site.cookie("root@pam");
            assert_eq!(gate.request("PUT", "/api2/html/cluster/options", &headers, b"a=1").status, 401);
        });
    });
    assert_eq!(gate.get("/api2/html/access/ticket", "").status, 200, "the page itself is open");
}
