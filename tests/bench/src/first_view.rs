//! The start of a GUI: the requests of its page, of a login and of the first view, in the order in which a browser
//! can know of them. The shapes are those of Proxmox VE's GUI; the sizes are rounded.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::backend::{self, Paths};
use crate::lab::Lab;

/// The answer to a request of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Page,
    /// Scripts and styles, which can be compressed.
    Text(usize),
    /// Fonts and pictures.
    Binary(usize),
    /// A call of the API that the daemon answers with so many bytes.
    Call(usize),
    /// The same before a login.
    OpenCall(usize),
    Login,
}

/// A browser sends the requests of a step when all answers of the step before are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub step: usize,
    /// Below the place of its kind, which `url` adds.
    pub path: &'static str,
    pub content: Content,
}

const fn item(step: usize, path: &'static str, content: Content) -> Item {
    Item { step, path, content }
}

use Content::{Binary, Call, Login, OpenCall, Page, Text};

pub(crate) const STEPS: usize = 6;

/// The page; what its head names; what styles and scripts load; the login; the first view; its panels.
pub(crate) const ITEMS: &[Item] = &[
    item(0, "/", Page),
    item(1, "/pve2/ext6/theme-crisp/resources/theme-crisp-all.css?ver=7.0.0", Text(480_000)),
    item(1, "/pve2/ext6/crisp/resources/charts-all.css?ver=7.0.0", Text(3_000)),
    item(1, "/pve2/fa/css/font-awesome.css", Text(38_000)),
    item(1, "/pve2/font-logos/css/font-logos.css", Text(5_000)),
    item(1, "/pve2/css/ext6-pve.css?ver=9.2.11", Text(24_000)),
    item(1, "/pwt/css/ext6-pmx.css?ver=5.1.5", Text(11_000)),
    item(1, "/pwt/themes/theme-proxmox-dark.css?ver=5.1.5", Text(35_000)),
    item(1, "/pve2/locale/pve-lang-de.js?ver=1764000000", Text(240_000)),
    item(1, "/pve2/ext6/ext-all.js?ver=7.0.0", Text(2_200_000)),
    item(1, "/pve2/ext6/charts.js?ver=7.0.0", Text(580_000)),
    item(1, "/pve2/js/u2f-api.js", Text(22_000)),
    item(1, "/qrcode.min.js", Text(20_000)),
    item(1, "/proxmoxlib.js?ver=5.1.5", Text(650_000)),
    item(1, "/pve2/js/pvemanagerlib.js?ver=9.2.11", Text(2_300_000)),
    item(1, "/pve2/ext6/locale/locale-de.js?ver=7.0.0", Text(9_000)),
    item(1, "/pve2/images/logo-128.png", Binary(5_000)),
    item(2, "/pve2/fa/fonts/fontawesome-webfont.woff2?v=4.7.0", Binary(77_000)),
    item(2, "/pve2/font-logos/font-logos.woff2", Binary(20_000)),
    item(2, "/pwt/images/proxmox_logo.png", Binary(3_000)),
    item(2, "/pve2/ext6/theme-crisp/resources/images/loadmask/loading.gif", Binary(1_500)),
    item(2, "/pve2/ext6/theme-crisp/resources/images/form/checkbox.png", Binary(1_200)),
    item(2, "/pve2/ext6/theme-crisp/resources/images/tools/tool-sprites.png", Binary(6_000)),
    item(2, "/pve2/ext6/theme-crisp/resources/images/grid/columns.png", Binary(400)),
    item(2, "/pve2/ext6/theme-crisp/resources/images/tree/arrows.png", Binary(500)),
    item(2, "/pve2/images/icon-cpu.svg", Text(1_100)),
    item(2, "/pve2/images/icon-memory.svg", Text(1_300)),
    item(2, "/api2/json/access/domains", OpenCall(400)),
    item(3, "/api2/extjs/access/ticket", Login),
    item(4, "/api2/json/version", Call(110)),
    item(4, "/api2/json/cluster/resources", Call(64_000)),
    item(4, "/api2/json/cluster/tasks", Call(12_000)),
    item(4, "/api2/json/cluster/options", Call(300)),
    item(4, "/api2/json/cluster/status", Call(600)),
    item(4, "/api2/json/access/permissions", Call(9_000)),
    item(4, "/api2/json/nodes", Call(1_500)),
    item(4, "/api2/json/nodes/localhost/subscription", Call(400)),
    item(4, "/api2/json/cluster/notifications/targets", Call(700)),
    item(4, "/api2/json/pools", Call(300)),
    item(4, "/api2/json/cluster/sdn/zones", Call(400)),
    item(4, "/api2/json/cluster/ha/status/current", Call(1_200)),
    item(4, "/api2/json/storage", Call(2_500)),
    item(5, "/api2/json/nodes/localhost/status", Call(2_200)),
    item(5, "/api2/json/nodes/localhost/rrddata?timeframe=hour&cf=AVERAGE", Call(28_000)),
    item(5, "/api2/json/nodes/localhost/rrddata?timeframe=day&cf=AVERAGE", Call(28_000)),
    item(5, "/api2/json/nodes/localhost/version", Call(120)),
    item(5, "/api2/json/nodes/localhost/network", Call(3_500)),
    item(5, "/api2/json/nodes/localhost/dns", Call(80)),
    item(5, "/api2/json/nodes/localhost/time", Call(120)),
    item(5, "/api2/json/nodes/localhost/services", Call(4_000)),
    item(5, "/api2/json/nodes/localhost/disks/list", Call(3_000)),
    item(5, "/api2/json/nodes/localhost/apt/update", Call(6_000)),
    item(5, "/api2/json/nodes/localhost/tasks", Call(14_000)),
    item(5, "/api2/json/nodes/localhost/storage", Call(2_800)),
    item(5, "/api2/json/nodes/localhost/qemu", Call(18_000)),
    item(5, "/api2/json/nodes/localhost/lxc", Call(9_000)),
    item(5, "/api2/json/nodes/localhost/certificates/info", Call(4_000)),
    item(5, "/api2/json/cluster/backup", Call(900)),
    item(5, "/api2/json/cluster/replication", Call(200)),
    item(5, "/api2/json/cluster/firewall/options", Call(150)),
    item(5, "/api2/json/cluster/ceph/status", Call(8_000)),
];

impl Item {
    pub(crate) fn is_call(&self) -> bool {
        matches!(self.content, Call(_) | OpenCall(_) | Login)
    }

    fn without_query(&self) -> &'static str {
        self.path.split('?').next().unwrap_or(self.path)
    }
}

/// The beginnings of URLs whose files are in another directory than their path says.
const DIRECTORIES: &[(&str, &str)] = &[
    ("/pve2/ext6/", "usr/share/javascript/extjs/"),
    ("/pve2/fa/", "usr/share/fonts-font-awesome/"),
    ("/pve2/font-logos/", "usr/share/fonts-font-logos/"),
    ("/pve2/locale/", "usr/share/pve-i18n/"),
    ("/pve2/", "usr/share/pve-manager/"),
    ("/pwt/", "usr/share/javascript/proxmox-widget-toolkit/"),
    ("/proxmoxlib.js", "usr/share/javascript/proxmox-widget-toolkit/proxmoxlib.js"),
    ("/qrcode.min.js", "usr/share/javascript/qrcodejs/qrcode.min.js"),
];
/// nodegate renders the template; nginx serves the page as a file.
const PAGES: [&str; 2] = ["usr/share/pve-manager/index.html.tpl", "usr/share/pve-manager/index.html"];

/// Writes the page and the files below the root of a lab, compressed ones beside them for nginx's `gzip_static`.
pub(crate) fn write_files(lab: &Lab) -> Result<()> {
    for page in PAGES {
        write(&lab.root().join(page), &page_text())?;
    }
    for item in ITEMS {
        let path = item.without_query();
        let place = DIRECTORIES.iter().find_map(|(url, place)| Some((path.strip_prefix(url)?, place)));
        let (relative, place) = match item.content {
            Text(_) | Binary(_) => place.with_context(|| path.to_owned())?,
            Page | Call(_) | OpenCall(_) | Login => continue,
        };
        let file = lab.root().join(format!("{place}{relative}"));
        match item.content {
            Text(length) => {
                write(&file, crate::lab::script(length).as_bytes())?;
                let status = Command::new("gzip").args(["-9", "-k", "-f"]).arg(&file).status()?;
                ensure!(status.success(), "gzip: {status}");
            }
            Binary(length) => write(&file, &noise(length))?,
            Page | Call(_) | OpenCall(_) | Login => {}
        }
    }
    Ok(())
}

fn write(file: &Path, content: &[u8]) -> Result<()> {
    let parent = file.parent().context("a file is in a directory")?;
    std::fs::create_dir_all(parent)?;
    std::fs::write(file, content).with_context(|| file.display().to_string())
}

/// A page that names the files of the second step.
fn page_text() -> Vec<u8> {
    let mut page = String::from("<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n");
    for item in ITEMS.iter().filter(|item| item.step == 1) {
        let tag = match item.without_query().rsplit_once('.') {
            Some((_, "css")) => format!("<link rel=\"stylesheet\" href=\"{}\">\n", item.path),
            Some((_, "js")) => format!("<script src=\"{}\"></script>\n", item.path),
            _ => format!("<link rel=\"icon\" href=\"{}\">\n", item.path),
        };
        page.push_str(&tag);
    }
    page.push_str("</head>\n<body></body>\n</html>\n");
    page.into_bytes()
}

/// Bytes that no compression makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// The daemon's answers by their paths, compressed as the daemon does for a browser: those longer than 1,024 bytes.
/// `ticket` is that of the user who logs in.
pub(crate) fn answers(ticket: &str) -> Result<Paths> {
    let mut answers = Paths::new();
    for item in ITEMS {
        let json = match item.content {
            Call(length) | OpenCall(length) => backend::body(length),
            Login => login(ticket).into_bytes(),
            Page | Text(_) | Binary(_) => continue,
        };
        let (body, coding) =
            if json.len() > 1024 { (gzip(&json)?, "Content-Encoding: gzip\r\n") } else { (json, "") };
        let both = ["keep-alive", "close"].map(|connection| backend::answer(&body, connection, coding));
        answers.insert(item.path.as_bytes().to_vec(), both);
    }
    Ok(answers)
}

fn login(ticket: &str) -> String {
    let token = "6A1B2C3D:0123456789012345678901234567890123456789012";
    let data = json!({
        "ticket": ticket,
        "CSRFPreventionToken": token,
        "username": "root@pam",
        "clustername": "bench",
        "cap": { "vms": {}, "nodes": {}, "storage": {}, "access": {}, "dc": {}, "sdn": {}, "mapping": {} },
    });
    json!({ "data": data, "success": 1 }).to_string()
}

fn gzip(text: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip").arg("-9").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = gzip.stdin.take().context("its input is a pipe")?;
    // Less than a pipe holds comes out before all has gone in.
    stdin.write_all(text)?;
    drop(stdin);
    let output = gzip.wait_with_output()?;
    ensure!(output.status.success(), "gzip: {}", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_has_page_login_and_sixty_requests() {
        assert!((60..70).contains(&ITEMS.len()), "{}", ITEMS.len());
        assert!(ITEMS.is_sorted_by_key(|item| item.step));
        assert!(ITEMS.iter().all(|item| item.step < STEPS));
        assert_eq!(ITEMS.iter().filter(|item| item.content == Login).count(), 1);
        let files = ITEMS.iter().filter(|item| matches!(item.content, Text(_) | Binary(_)));
        let known = |path: &str| DIRECTORIES.iter().any(|(url, _)| path.starts_with(url));
        assert!(files.clone().all(|item| known(item.path)), "a file has no place");
    }
}
