//! A root directory that all three profiles can be served from.

use std::fs;
use std::path::Path;

use crate::certs::{Certificate, KeyKind};
use crate::keys::{Keys, write};

/// The start page of a product in the demo.
struct StartPage {
    product: &'static str,
    template: &'static str,
    script: &'static str,
    cookie: &'static str,
}

const PAGES: [StartPage; 2] = [
    StartPage {
        product: "Proxmox VE",
        template: "usr/share/pve-manager/index.html.tpl",
        script: "/pve2/js/pvemanagerlib.js",
        cookie: "PVEAuthCookie",
    },
    StartPage {
        product: "Mail Gateway",
        template: "usr/share/javascript/pmg-gui/pmg-index.html.tt",
        script: "/pve2/js/pmgmanagerlib.js",
        cookie: "PMGAuthCookie",
    },
];

/// The short host name, which is the node's name.
pub fn node_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let short = name.trim().split('.').next().unwrap_or_default();
    if short.is_empty() { "localhost" } else { short }.to_owned()
}

/// Keys, certificates, settings, pages and directories; what is there already stays, certificates included.
pub fn prepare(root: &Path) -> Keys {
    let keys = Keys::load_or_create(root);
    for directory in ["var/log/pveproxy", "var/log/pmgproxy", "run/pveproxy", "run/pmgproxy", "var/tmp"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    if !root.join("etc/pve/authkey.pub").exists() {
        keys.write_pve(root);
    }
    if !root.join("etc/pmg/pmg-authkey.pub").exists() {
        keys.write_pmg(root);
    }
    if !root.join("etc/pmg/pmg-api.pem").exists() {
        write_certificates(root);
    }
    for daemon in ["pveproxy", "pmgproxy"] {
        let settings = "# ALLOW_FROM=\"10.0.0.1-10.0.0.5,192.168.0.0/22\"\n\
                        DENY_FROM=\"203.0.113.0/24,127.0.0.9\"\nPOLICY=\"allow\"\n";
        write_once(root, &format!("etc/default/{daemon}"), settings.as_bytes());
    }
    for script in
        ["usr/share/pve-manager/js/pvemanagerlib.js", "usr/share/javascript/pmg-gui/js/pmgmanagerlib.js"]
    {
        let body = "// A stand-in for the GUI's script, long enough to be compressed.\n".repeat(64);
        write_once(root, script, body.as_bytes());
    }
    for icon in
        ["usr/share/pve-manager/images/favicon.ico", "usr/share/javascript/pmg-gui/images/favicon.ico"]
    {
        write_once(root, icon, &icon_file());
    }
    for page in &PAGES {
        let text = include_str!("demo.html")
            .replace("{product}", page.product)
            .replace("{script}", page.script)
            .replace("{cookie}", page.cookie);
        write_once(root, page.template, text.as_bytes());
    }
    keys
}

fn write_certificates(root: &Path) {
    let name = format!("{}.example.com", node_name());
    let ca = Certificate::ca();
    let node = ca.issue(&name, &[&node_name()], KeyKind::Rsa2048);
    write(&root.join("etc/pve/pve-root-ca.pem"), ca.certificate_pem());
    node.write(&root.join("etc/pve/local"), "pve-ssl");
    let own = root.join("etc/pve/nodes").join(node_name());
    write(&own.join("pve-ssl.pem"), node.certificate_pem());
    write(&root.join("etc/pmg/pmg-api.pem"), node.combined_pem());
}

fn write_once(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    if !path.exists() {
        write(&path, content);
    }
}

/// A 1×1 icon of 32 bits: directory, entry, bitmap header, one pixel, its mask.
fn icon_file() -> Vec<u8> {
    let mut icon = vec![0, 0, 1, 0, 1, 0];
    icon.extend([1, 1, 0, 0, 1, 0, 32, 0, 48, 0, 0, 0, 22, 0, 0, 0]);
    icon.extend([40, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 32, 0]);
    icon.extend([0; 24]);
    icon.extend([0x00, 0x70, 0xE5, 0xFF, 0, 0, 0, 0]);
    icon
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let first = prepare(root.path());
        let certificate = fs::read(root.path().join("etc/pve/local/pve-ssl.pem")).unwrap();
        let second = prepare(root.path());
        assert_eq!(first.private_pem(), second.private_pem());
        assert_eq!(fs::read(root.path().join("etc/pve/local/pve-ssl.pem")).unwrap(), certificate);
    }
}
