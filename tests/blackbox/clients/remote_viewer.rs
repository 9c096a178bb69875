//! The remote-viewer that people have.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nodegate_standin::now;

use super::guest::Guest;
use super::virtual_screen::Screen;
use super::{missing, run, text};
use crate::cluster::machines::Cluster;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site, require_root};

/// Text of a PC's firmware and of our guest.
const TEXT_COLOUR: u32 = 0xA8_A8A8;

/// Killed when dropped.
struct RemoteViewer {
    process: Child,
    debug_log: PathBuf,
}

impl RemoteViewer {
    fn open(screen: &Screen, file: &Path, home: &Path) -> Self {
        let mut command = screen.command("remote-viewer", home);
        command.arg("--spice-debug").arg(file);
        Self::start(command, home)
    }

    /// One that trusts the CAs of `bundle` and no others: what it may come by over TLS cannot be said in its file.
    fn open_trusting(bundle: &Path, screen: &Screen, file: &Path, home: &Path) -> Self {
        const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
        let mut command = screen.command("unshare", home);
        let script = format!("mount --bind \"$0\" {SYSTEM} && exec remote-viewer --spice-debug \"$1\"");
        command.args(["--mount", "sh", "-c", &script]).arg(bundle).arg(file);
        Self::start(command, home)
    }

    fn start(mut command: Command, home: &Path) -> Self {
        let debug_log = home.join("remote-viewer.log");
        // GLib 2.80 and later reads it before `--spice-debug` is read.
        command
            .env("G_MESSAGES_DEBUG", "GSpice")
            .stdin(Stdio::null())
            .stdout(File::create(&debug_log).unwrap())
            .stderr(File::options().append(true).open(&debug_log).unwrap());
        let process = command.spawn().unwrap_or_else(|error| missing(&command, &error));
        Self { process, debug_log }
    }

    fn said(&self) -> String {
        let log = text(&fs::read(&self.debug_log).unwrap_or_default());
        log.lines().filter(|line| !line.contains("decode-glz")).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for RemoteViewer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// On a busy machine the first picture takes a while.
fn wait_for(viewer: &RemoteViewer, gate: &Nodegate, what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(90);
    while !holds() {
        assert!(Instant::now() < until, "never came true: {what}\n{}\n{}", gate.stderr(), viewer.said());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn every_channel_is_logged(site: &Site) {
    // main, display, inputs, cursor
    eventually("a line of the log for every channel", || site.access_log().lines().count() == 4);
    let log = site.access_log();
    assert!(
        log.lines().all(|line| line.contains("\"CONNECT pvespiceproxy:") && line.contains("\" 200 ")),
        "{log}"
    );
}

/// Types it again where the viewer had no keyboard focus yet. On a busy machine a key may also repeat itself.
fn type_until_heard(viewer: &RemoteViewer, gate: &Nodegate, guest: &Guest, screen: &Screen, letter: char) {
    let heard_before = guest.typed().len();
    let (mut next_try, key) = (Instant::now(), letter.to_string());
    wait_for(viewer, gate, &format!("the guest hears {letter:?}"), || {
        if Instant::now() >= next_try {
            let mut command = screen.command("xdotool", viewer.debug_log.parent().unwrap());
            let output = run(command.args(["mousemove", "512", "400", "key", &key]));
            assert!(output.status.success(), "{}", text(&output.stderr));
            next_try = Instant::now() + Duration::from_secs(5);
        }
        guest.typed()[heard_before..].ends_with(letter)
    });
}

#[test]
fn remote_viewer_shows_and_controls_the_guest() {
    let (site, folder) = (Site::pve(), tempfile::tempdir().unwrap());
    let gate = Nodegate::start_profile(&site, "spice", &[]);
    let guest = Guest::start(folder.path());
    let screen = Screen::start(folder.path());
    let viewer = RemoteViewer::open(&screen, &guest.viewer_file(&site, &gate, now()), folder.path());
    wait_for(&viewer, &gate, "the guest's text is on the screen", || screen.pixels(TEXT_COLOUR) > 200);
    let before = screen.pixels(TEXT_COLOUR);
    for letter in "viewer".chars() {
        type_until_heard(&viewer, &gate, &guest, &screen, letter);
    }
    let mut typed: Vec<char> = guest.typed().chars().collect();
    typed.dedup();
    assert_eq!(typed.iter().collect::<String>(), "viewer");
    wait_for(&viewer, &gate, "what was typed is on the screen", || screen.pixels(TEXT_COLOUR) > before + 50);
    every_channel_is_logged(&site);
}

/// The ticket is expired, or forged.
#[test]
fn remote_viewer_reports_401_for_bad_tickets() {
    let (site, folder) = (Site::pve(), tempfile::tempdir().unwrap());
    let gate = Nodegate::start_profile(&site, "spice", &[]);
    let guest = Guest::start(folder.path());
    let screen = Screen::start(folder.path());
    let expired = guest.viewer_file(&site, &gate, now() - 60);
    let good = fs::read_to_string(guest.viewer_file(&site, &gate, now())).unwrap();
    let forged = folder.path().join("forged.vv");
    fs::write(&forged, good.replace(":100:node1:", ":101:node1:")).unwrap();
    for (number, file) in [expired, forged].iter().enumerate() {
        let viewer = RemoteViewer::open(&screen, file, folder.path());
        wait_for(&viewer, &gate, "a refusal", || viewer.said().contains("HTTP proxy connection failed: 401"));
        let refusals = || site.access_log().lines().filter(|line| line.contains(" HTTP/1.0\" 401 ")).count();
        eventually("the refusal is in the log", || refusals() == number + 1);
    }
    assert_eq!(site.access_log().lines().count(), 2);
}

/// The CA of the site's certificate, for a viewer that comes by TLS.
fn bundle(site: &Site, folder: &Path) -> PathBuf {
    const END: &str = "-----END CERTIFICATE-----\n";
    let chain = fs::read_to_string(site.path("/etc/pve/local/pve-ssl.pem")).unwrap();
    let path = folder.join("bundle.pem");
    fs::write(&path, chain.split_inclusive(END).last().unwrap()).unwrap();
    path
}

/// The guest's text comes through a proxy with this URL, in a tunnel for each channel.
fn shows_the_guest_through(proxy: &str, site: &Site, gate: &Nodegate) {
    if !require_root("give a viewer other CAs") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::start(folder.path());
    let screen = Screen::start(folder.path());
    let file = guest.viewer_file_through(proxy, site, now());
    let viewer = RemoteViewer::open_trusting(&bundle(site, folder.path()), &screen, &file, folder.path());
    wait_for(&viewer, gate, "the guest's text is on the screen", || screen.pixels(TEXT_COLOUR) > 200);
    every_channel_is_logged(site);
}

#[test]
fn remote_viewer_connects_to_the_tunnel_over_tls() {
    let site = Site::pve();
    let gate = Nodegate::start_profile(&site, "spice", &[]);
    shows_the_guest_through(&format!("https://{}", gate.local()), &site, &gate);
}

#[test]
fn remote_viewer_connects_to_the_api_port() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["tunnel.connect_on_https=true"]);
    shows_the_guest_through(&format!("https://{}", gate.local()), &site, &gate);
}

/// The viewer comes to node2 in the clear; from there to node1, where the guest is, all goes by TLS.
#[test]
fn remote_viewer_reaches_another_node_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::pve(2);
    let there = cluster.start(1, &["tunnel.connect_on_https=true"]);
    let (cluster_port, site) = (format!("cluster.port={}", cluster.port), &cluster.nodes[1].site);
    let own = ["node.name=node2", "listen.address=127.0.0.2", "tunnel.peer_tls=true", "tunnel.peer_port=1"];
    let here = Nodegate::start_profile(site, "spice", &[&own[..], &[&cluster_port]].concat());
    let guest = Guest::start(folder.path());
    let screen = Screen::start(folder.path());
    let viewer = RemoteViewer::open(&screen, &guest.viewer_file(site, &here, now()), folder.path());
    wait_for(&viewer, &here, "the guest's text is on the screen", || screen.pixels(TEXT_COLOUR) > 200);
    for node in &cluster.nodes {
        let tunnels = || node.site.access_log().matches("\"CONNECT pvespiceproxy:").count();
        eventually("a line of both logs for every channel", || tunnels() == 4);
    }
    drop(there);
}
