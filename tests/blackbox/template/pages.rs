//! The six page templates of both products, in their shapes: beside Template Toolkit, and in Chromium.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{data, run, template_toolkit};
use crate::support::{Nodegate, Site};

const PVE_DESKTOP: &str = "/usr/share/pve-manager/index.html.tpl";
const PVE_MOBILE: &str = "/usr/share/pve-yew-mobile-gui/index.html.tpl";
const NOVNC: &str = "/usr/share/novnc-pve/index.html.tpl";
const XTERMJS: &str = "/usr/share/pve-xtermjs/index.html.tpl";
const PMG_DESKTOP: &str = "/usr/share/javascript/pmg-gui/pmg-index.html.tt";
const PMG_MOBILE: &str = "/usr/share/pmg-mobile-quarantine-ui/pmg-mobile-index.html.tt";

const PHONE: &str = "User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148\r\n";

/// Every variable that the products give their templates.
const VARIABLES: &[&str] = &[
    "lang",
    "langfile",
    "username",
    "token",
    "console",
    "nodename",
    "arch",
    "debug",
    "version",
    "wtversion",
    "theme",
    "consenttext",
    "i18n_js_mtime",
    "i18n_yew_mobile_mtime",
    "yew_mobile_mtime",
    "yew_mobile_base_path",
    "quarantinelink",
];

/// A template's place, its fixture, and requests that lead to it.
struct Shape {
    place: &'static str,
    fixture: &'static str,
    requests: &'static [(&'static str, &'static str)],
}

const PVE: &[Shape] = &[
    Shape { place: PVE_DESKTOP, fixture: "pve-desktop.tpl", requests: &[("/", ""), ("/?debug=1", "")] },
    Shape {
        place: NOVNC,
        fixture: "novnc.tpl",
        requests: &[
            ("/?console=kvm&novnc=1", ""),
            ("/?console=&novnc=1", ""),
            ("/?console=kvm&novnc=1&debug", ""),
        ],
    },
    Shape { place: XTERMJS, fixture: "xtermjs.tpl", requests: &[("/?console=lxc&xtermjs=1", "")] },
    Shape { place: PVE_MOBILE, fixture: "pve-mobile.tpl", requests: &[("/", PHONE), ("/?mobile=1", "")] },
];
const PMG: &[Shape] = &[
    Shape { place: PMG_DESKTOP, fixture: "pmg-desktop.tt", requests: &[("/", ""), ("/quarantine", "")] },
    Shape { place: XTERMJS, fixture: "xtermjs.tpl", requests: &[("/?console=shell&xtermjs=1", "")] },
    Shape { place: PMG_MOBILE, fixture: "pmg-mobile.tt", requests: &[("/quarantine", PHONE)] },
];

fn fixture(name: &str) -> String {
    std::fs::read_to_string(data("pages").join(name)).unwrap()
}

/// With the files that the variables come from.
fn site(site: Site, shapes: &[Shape]) -> Site {
    for shape in shapes {
        site.write(shape.place, fixture(shape.fixture));
    }
    site.write("/etc/pve/datacenter.cfg", "language: de\nconsent-text: For%20staff%0A\n");
    site.write(
        "/etc/pmg/pmg.conf",
        "section: admin\n\tconsent-text TWFu+/8=\n\nsection: spamquar\n\tquarantinelink 1\n",
    );
    for folder in ["pve-i18n", "pmg-i18n"] {
        site.write(&format!("/usr/share/{folder}/{}-lang-fr.js", &folder[..3]), "x");
    }
    for folder in ["pve-yew-mobile-i18n", "pmg-yew-quarantine-i18n"] {
        site.write(&format!("/usr/share/{folder}/x"), "x");
    }
    site.write("/usr/share/perl5/PVE/pvecfg.pm", "sub version {\n    return '9.2.11';\n}\n");
    site.write("/usr/share/javascript/pmg-gui/js/pmgmanagerlib.js", "// 5.1.0\n");
    site.write("/usr/share/javascript/proxmox-widget-toolkit/proxmoxlib.js", "// v5.1.2\n");
    site
}

/// The variables' values for a request.
fn values(
    site: &Site,
    gate: &Nodegate,
    shape: &Shape,
    path: &str,
    headers: &str,
) -> BTreeMap<String, String> {
    let lines: Vec<_> = VARIABLES.iter().map(|name| format!("{name}=[% {name} %]|\n")).collect();
    site.write(shape.place, lines.concat());
    let text = gate.get(path, headers).text();
    site.write(shape.place, fixture(shape.fixture));
    let lines = text.split("|\n").filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// nodegate's page and Template Toolkit's, of one moment: the token changes each second.
fn both(site: &Site, gate: &Nodegate, shape: &Shape, path: &str, headers: &str) -> (String, String) {
    for _ in 0..20 {
        let before = values(site, gate, shape, path, headers);
        let page = gate.get(path, headers);
        assert_eq!(page.status, 200, "{}", page.text());
        let after = values(site, gate, shape, path, headers);
        if before == after {
            let expected = template_toolkit(&json!([[fixture(shape.fixture), before]]));
            return (page.text(), expected[0].clone().expect("Template Toolkit renders the fixture"));
        }
    }
    panic!("the variables did not stay the same for a second");
}

#[test]
fn pages_of_both_products_are_template_toolkits() {
    for (site, shapes, name) in [(site(Site::pve(), PVE), PVE, "PVE"), (site(Site::pmg(), PMG), PMG, "PMG")] {
        let gate = Nodegate::start(&site, &[]);
        for shape in shapes {
            for (path, agent) in shape.requests {
                for cookies in ["Lang=x".to_owned(), format!("LangCookie=fr; {name}ThemeCookie=proxmox-dark")]
                {
                    let login = site.cookie("root@pam").replace("\r\n", "");
                    let headers = format!("{agent}{login}; {name}{cookies}\r\n");
                    let (page, expected) = both(&site, &gate, shape, path, &headers);
                    assert_eq!(page, expected, "{path} {headers}");
                }
            }
        }
    }
}

/// Chromium's view of pages.
fn browse(gate: &Nodegate, requests: &Value) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/pages.mjs");
    let origin = format!("https://127.0.0.1:{}", gate.port());
    let seen = run(Command::new("node").arg(script).arg(origin), requests);
    assert!(seen["error"].is_null(), "{seen:#}");
    seen.as_array().unwrap().clone()
}

fn request(site: &Site, path: &str, is_phone: bool, user: &str, others: &Value) -> Value {
    let cookie = site.cookie(user);
    let (name, ticket) = cookie.trim_end().trim_start_matches("Cookie: ").split_once('=').unwrap();
    let mut cookies = others.clone();
    let encoded = percent_encoding::utf8_percent_encode(ticket, percent_encoding::NON_ALPHANUMERIC);
    cookies[name] = json!(encoded.to_string());
    json!({ "path": path, "cookies": cookies, "phone": is_phone })
}

#[test]
fn scripts_of_all_six_pages_see_their_variables() {
    let pve = [
        ("/", false, "pve-desktop"),
        ("/?console=kvm&novnc=1", false, "novnc"),
        ("/?console=&xtermjs=1", false, "xtermjs"),
        ("/", true, "pve-mobile"),
    ];
    let pmg = [
        ("/", false, "pmg-desktop"),
        ("/quarantine", false, "pmg-desktop"),
        ("/?console=shell&xtermjs=1", true, "xtermjs"),
        ("/quarantine", true, "pmg-mobile"),
    ];
    for (site, pages) in [(site(Site::pve(), PVE), pve), (site(Site::pmg(), PMG), pmg)] {
        let gate = Nodegate::start(&site, &[]);
        let asked = pages.map(|(path, is_phone, _)| request(&site, path, is_phone, "root@pam", &json!({})));
        for (seen, (path, _, shape)) in browse(&gate, &json!(asked)).iter().zip(pages) {
            let values = &seen["values"];
            assert_eq!(
                (seen["status"].as_u64(), values["shape"].as_str()),
                (Some(200), Some(shape)),
                "{path} {seen}"
            );
            assert_eq!(values["user"], "root@pam", "{path} {seen}");
            assert_eq!(seen["errors"], json!([]), "{path}");
            let token = values["token"].as_str().unwrap();
            let now = nodegate_standin::now();
            assert!((now - 60..=now).any(|time| token == site.keys.csrf("root@pam", time)), "{path} {token}");
        }
    }
}

#[test]
fn hostile_values_stay_text_in_a_browser() {
    let user = "o'br\"<img>`\\${alert(1)}<!--\u{fc}@ad";
    let hostile = "%27%22%3C%2Fscript%3E%3Csvg%20onload%3Dalert(1)%3E";
    let pages =
        [("/", false), ("/", true), ("/?console=kvm&novnc=1", false), ("/?console=kvm&xtermjs=1", true)];
    let quarantine =
        [("/", false), ("/quarantine", true), ("/?console=a&xtermjs=1", false), ("/quarantine", false)];
    for (site, name, pages) in
        [(site(Site::pve(), PVE), "PVE", pages), (site(Site::pmg(), PMG), "PMG", quarantine)]
    {
        let gate = Nodegate::start(&site, &[]);
        let attack =
            json!({ (format!("{name}LangCookie")): hostile, (format!("{name}ThemeCookie")): hostile });
        let mut asked = Vec::new();
        for (path, is_phone) in pages {
            asked.push(request(&site, path, is_phone, "root@pam", &json!({})));
            asked.push(request(&site, path, is_phone, user, &attack));
            let joint = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{joint}lang={hostile}&theme={hostile}&node={hostile}");
            asked.push(request(&site, &path, is_phone, user, &attack));
        }
        for seen in browse(&gate, &json!(asked)).chunks(3) {
            let [plain, attacked, more] = seen else { panic!("three of each") };
            for seen in [attacked, more] {
                assert_eq!(seen["values"]["user"], user, "{seen}");
                assert_eq!(seen["elements"], plain["elements"], "{seen}");
                assert_eq!(seen["errors"], json!([]));
            }
        }
    }
}
