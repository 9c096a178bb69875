//! A command that runs to its end, and what it said.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::nodegate;
use super::site::Site;

/// Longer than any command may take; scanners are slow on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(10);

#[derive(Debug)]
pub struct Outcome {
    /// -1 when a signal ended it
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Runs without input.
    pub fn of(command: &mut Command) -> Self {
        Self::with_input(command, b"")
    }

    pub fn with_input(command: &mut Command, input: &[u8]) -> Self {
        let (mut stdin, stdout, stderr) =
            (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        std::io::Write::write_all(&mut stdin, input).unwrap();
        stdin.rewind().unwrap();
        let mut child = command
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(stdout.try_clone().unwrap()))
            .stderr(Stdio::from(stderr.try_clone().unwrap()))
            .spawn()
            .unwrap();
        let until = Instant::now() + TIMEOUT;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{command:?} does not end:\n{}{}", text(stdout), text(stderr));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Self { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
    }

    /// `nodegate --root SITE …`
    pub fn ask(site: &Site, arguments: &[&str]) -> Self {
        Self::of(&mut nodegate::command(&[&["--root", site.root().to_str().unwrap()], arguments].concat()))
    }

    /// `nodegate check` of the site's profile, with settings as `KEY=VALUE`.
    pub fn check(site: &Site, sets: &[&str]) -> Self {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        Self::ask(site, &["check", site.profile()].into_iter().chain(sets).collect::<Vec<_>>())
    }

    /// The same as JSON.
    pub fn check_json(site: &Site, sets: &[&str]) -> (i32, serde_json::Value) {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let asked =
            Self::ask(site, &["check", "--json", site.profile()].into_iter().chain(sets).collect::<Vec<_>>());
        (asked.code, serde_json::from_str(&asked.stdout).unwrap())
    }

    /// The line of `check` for a key.
    pub fn setting(&self, key: &str) -> &str {
        let mut lines = self.stdout.lines().filter(|line| line.starts_with(&format!("{key} = ")));
        let line = lines.next().unwrap_or_else(|| panic!("no {key} in {self:?}"));
        assert!(lines.next().is_none(), "several lines for {key}");
        line
    }

    /// Panics unless a line of stderr is exactly this.
    #[track_caller]
    pub fn complains(&self, line: &str) {
        assert!(self.stderr.lines().any(|said| said == line), "no line\n{line}\nin\n{}", self.stderr);
    }
}

fn text(mut file: File) -> String {
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
