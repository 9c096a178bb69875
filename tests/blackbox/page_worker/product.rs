//! The worker of the packages in front of stand-ins for the products' modules, asked by curl through nodegate.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{INDEX, MOBILE, TOMORROW};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};

/// `debian/worker/api-worker` with a socket, as its units start it.
struct ApiWorker {
    child: Child,
    address: String,
    directory: TempDir,
}

impl ApiWorker {
    fn start(product: &str, modules: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let descriptor = socket.as_raw_fd();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("debian/worker/api-worker");
        // A shell knows its own pid, and keeps it for what it becomes.
        let mut command = Command::new("sh");
        command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\"", "perl", "-I"]).arg(modules);
        command.arg(program).arg(product).env("LISTEN_FDS", "1").env("RUNTIME_DIRECTORY", directory.path());
        let log = fs::File::create(directory.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // SAFETY: dup2(2) and fcntl(2) may be called between fork and exec.
        unsafe {
            command.pre_exec(move || {
                let copy = nix::libc::fcntl(descriptor, nix::libc::F_DUPFD, 100);
                nix::libc::dup2(copy, 3);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        Self { child, address: socket.local_addr().unwrap().to_string(), directory }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

impl Drop for ApiWorker {
    fn drop(&mut self) {
        // It ends its own processes at SIGTERM.
        let _ = kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// The modules that stand in for the products' own.
fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages/original/perl")
}

/// A copy of them, to be changed.
fn copied_modules() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    assert!(
        Command::new("cp").arg("-r").arg(modules().join(".")).arg(copy.path()).status().unwrap().success()
    );
    copy
}

/// Status and body, by curl.
fn curl(gate: &Nodegate, path: &str, arguments: &[&str]) -> (u16, String) {
    let url = format!("https://127.0.0.1:{}{path}", gate.port());
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--insecure", "--globoff", "--max-time", "30"]);
    let output = command.args(["--write-out", "\n%{http_code}"]).args(arguments).arg(url).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

fn start(site: &Site, worker: &ApiWorker) -> Nodegate {
    let gate = Nodegate::start(site, &[&format!("backend.unprivileged={}", worker.address)]);
    eventually("the worker answers", || gate.get("/api2/json/access/domains", "").text().contains("worker"));
    gate
}

#[track_caller]
fn shows(page: &str, rows: &[(&str, &str)]) {
    for (name, value) in rows {
        assert!(page.contains(&format!("<p>{name}={value}|</p>")), "{name}={value} in {page}");
    }
}

#[test]
fn the_products_code_renders_tomorrows_templates() {
    let site = Site::pve();
    site.write(INDEX, TOMORROW);
    site.write(MOBILE, TOMORROW);
    let worker = ApiWorker::start("pve", &modules());
    let gate = start(&site, &worker);
    let agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148";
    let ticket = site.ticket("root@pam");
    let cookies = format!("PVELangCookie=de; a=b; PVEAuthCookie={ticket}");
    let query = "/?mobile&debug=1&console=&x=%C3%BC+y;z=1";
    let (status, body) = curl(&gate, query, &["--cookie", &cookies, "--user-agent", agent, "--compressed"]);
    assert_eq!(status, 200, "{body}\n{}", worker.log());
    assert!(body.contains("<html lang=\"de\">"), "{body}");
    let node = nix::unistd::gethostname().unwrap().to_string_lossy().into_owned();
    let node = node.split('.').next().unwrap();
    shows(
        &body,
        &[
            ("node", node),
            ("debug", "0"),
            ("path", "/"),
            ("language", "de"),
            ("ticket", &ticket),
            ("agent", agent),
            ("?mobile", "undefined"),
            ("?debug", "1"),
            ("?console", ""),
            ("?x", "ü y"),
            ("?z", "1"),
        ],
    );
    let (status, body) = curl(&gate, "/", &["--user-agent", ""]);
    assert_eq!(status, 200);
    shows(&body, &[("cookies", "none"), ("agent", "none"), ("language", "none")]);
    // An error of the page function ends neither the worker nor its calls.
    let (status, body) = curl(&gate, "/?fail-here=1", &[]);
    assert_eq!(status, 500);
    assert!(
        body.contains("'PERL'") && body.contains("the worker does not render it either: it answered 500"),
        "{body}"
    );
    assert!(worker.log().contains("the page / cannot be made: failing on request"), "{}", worker.log());
    assert_eq!(curl(&gate, "/", &["--head"]).0, 200);
    assert_eq!(curl(&gate, "/api2/json/access/domains", &[]).0, 200);
}

#[test]
fn the_quarantines_page_is_the_workers_too() {
    let site = Site::pmg();
    site.write("/usr/share/javascript/pmg-gui/pmg-index.html.tt", TOMORROW);
    let worker = ApiWorker::start("pmg", &modules());
    let gate = Nodegate::start(&site, &[&format!("backend.unprivileged={}", worker.address)]);
    eventually("the worker answers", || gate.get("/", "").status == 200);
    let (status, body) = curl(&gate, "/quarantine?cselect=1", &["--cookie", "PMGLangCookie=zh_CN"]);
    assert_eq!(status, 200, "{}", worker.log());
    shows(&body, &[("path", "/quarantine"), ("language", "zh_CN"), ("?cselect", "1")]);
}

#[test]
fn calls_work_without_the_products_page_function() {
    for (change, reported) in [
        (None, "no pages: PVE::Service::pveproxy cannot be loaded: "),
        (Some("package PVE::Service::pveproxy; 1;"), "no pages: PVE::Service::pveproxy has no get_index"),
        (Some("package PVE::Service::pveproxy; die \"moved\\n\";"), "cannot be loaded: moved"),
    ] {
        let site = Site::pve();
        site.write(INDEX, TOMORROW);
        let modules = copied_modules();
        let module = modules.path().join("PVE/Service/pveproxy.pm");
        match change {
            Some(text) => fs::write(module, text).unwrap(),
            None => fs::remove_file(module).unwrap(),
        }
        let worker = ApiWorker::start("pve", modules.path());
        let gate = start(&site, &worker);
        assert!(worker.log().contains(reported), "{}", worker.log());
        let (status, body) = curl(&gate, "/", &[]);
        assert_eq!(status, 500, "{body}");
        assert!(body.contains("the worker does not render it either: it answered 500"), "{body}");
    }
}

#[test]
fn loading_the_service_changes_nothing_of_the_worker() {
    let site = Site::pve();
    let worker = ApiWorker::start("pve", &modules());
    let _gate = start(&site, &worker);
    let task = format!("/proc/{}", worker.child.id());
    let name = fs::read(format!("{task}/cmdline")).unwrap();
    assert!(name.starts_with(b"nodegate-pve-worker"), "{}", String::from_utf8_lossy(&name));
    // It ends at SIGTERM although the module has set a handler; its drop waits for that.
}
