//! The installed product as its own modules describe it. A program of the profile reads them as the product's user.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::unistd::{User, geteuid};

use super::table_file;
use crate::cli::package::{self, PackageState};
use crate::config::Config;
use crate::config::route_table::{ApiMethod, RouteTable, parse_method};
use crate::os::program::{self, InterruptWatch, ProgramError, ProgramLimits};

/// The product with the longest output has 40 kB.
const MAX_OUTPUT_BYTES: u64 = 4 << 20;
/// The products' daemons, which load the same modules, have less than half of it.
const MAX_MEMORY_BYTES: u64 = 1 << 30;
/// Characters of a message that are shown.
const MAX_MESSAGE_CHARS: usize = 600;
/// The last line: without it the output is not complete.
const END: &str = "end";

/// The API of the installed product, and what it serves besides.
#[derive(Debug, Default)]
pub(super) struct InstalledProduct {
    /// by path and method
    pub(super) methods: BTreeMap<(String, String), ApiMethod>,
    pub(super) served: Vec<ServedPath>,
    /// facts that the program could not find out
    pub(super) notes: Vec<String>,
    /// the installed packages of the profile, each with its version
    pub(super) packages: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ServedKind {
    Directory,
    File,
    Page,
}

/// A directory, a file or a page that the product serves without the API.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServedPath {
    pub(super) kind: ServedKind,
    pub(super) url: String,
    /// empty for a page
    pub(super) path: String,
}

impl InstalledProduct {
    /// Runs the program of the profile.
    pub(super) fn read(config: &Config, limit: Duration) -> Result<Self, String> {
        let text = run_program(config, limit)?;
        let mut installed = Self::parse(&text).map_err(|error| printable(&error))?;
        let table = table_file::render(&config.product.name, &installed, &[]);
        RouteTable::parse(&table).map_err(|problems| {
            let problems = problems.iter().map(|problem| problem.message.clone());
            printable(&format!(
                "its API cannot be a route table: {}",
                problems.collect::<Vec<_>>().join("; ")
            ))
        })?;
        for package in config.product.doctor.packages.keys() {
            if let PackageState::Installed(version) = package::state(&config.root, package) {
                installed.packages.insert(package.clone(), version);
            }
        }
        Ok(installed)
    }

    /// Reads the lines that docs/reference/profile.md describes.
    fn parse(text: &str) -> Result<Self, String> {
        let mut installed = Self::default();
        let mut is_complete = false;
        for (index, line) in text.lines().enumerate() {
            let unknown =
                |why: &str| format!("line {} of its description is unknown{why}: '{line}'", index + 1);
            if is_complete {
                return Err(unknown(" (the description has ended)"));
            }
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            // Some separate the words of a route table, and others are commands of a terminal.
            if word != "note" && !line.chars().all(is_printable) {
                return Err(unknown(" (it has a character that cannot be shown)"));
            }
            let (first, last) = rest.split_once(' ').unwrap_or((rest, ""));
            match word {
                "route" if last.starts_with('/') && !last.contains(' ') => {
                    let parsed = parse_method(first).map_err(|error| unknown(&format!(" ({error})")))?;
                    installed.methods.insert((last.to_owned(), parsed.0), parsed.1);
                }
                "directory" if !last.is_empty() => installed.add(ServedKind::Directory, first, last),
                "file" if !last.is_empty() => installed.add(ServedKind::File, first, last),
                "page" if last.is_empty() && !first.is_empty() => installed.add(ServedKind::Page, first, ""),
                "note" => installed.notes.push(printable(rest)),
                END => is_complete = true,
                _ => return Err(unknown("")),
            }
        }
        if !is_complete {
            return Err("its description is not complete".to_owned());
        }
        if installed.methods.is_empty() {
            return Err("its description has no route".to_owned());
        }
        Ok(installed)
    }

    fn add(&mut self, kind: ServedKind, url: &str, path: &str) {
        self.served.push(ServedPath { kind, url: url.to_owned(), path: path.to_owned() });
    }
}

fn run_program(config: &Config, limit: Duration) -> Result<String, String> {
    let rules = config.product.dump.as_ref().ok_or("its profile has no [product.dump]")?;
    // The program runs in another directory.
    let root = std::path::absolute(config.root.directory()).map_err(|error| error.to_string())?;
    let mut words = rules.words(&root);
    let name = words.next().ok_or("product.dump.command is empty")?;
    let mut command = Command::new(&name);
    command.args(words).env_clear().env("LC_ALL", "C.UTF-8").current_dir(Path::new("/"));
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    if let Some(user) = user_to_run_as(config)? {
        program::run_as(&mut command, &user);
    }
    let limits =
        ProgramLimits { time: limit, output_bytes: MAX_OUTPUT_BYTES, memory_bytes: Some(MAX_MEMORY_BYTES) };
    let watch = InterruptWatch::start().map_err(|error| error.to_string())?;
    let output = match watch.run(&mut command, rules.script()?, limits) {
        Ok(output) => output,
        Err(ProgramError::NotStarted(error)) => return Err(format!("{name} cannot be started: {error}")),
        Err(ProgramError::TooSlow) => return Err(format!("{name} did not end within {} s", limit.as_secs())),
    };
    if output.is_truncated {
        return Err(format!("{name} wrote more than {MAX_OUTPUT_BYTES} bytes"));
    }
    if !output.status.success() {
        let reason = last_line(&output.stderr).unwrap_or_else(|| output.status.to_string());
        return Err(format!("{name} failed: {reason}"));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{name} wrote something that is not UTF-8 text"))
}

/// The user of the settings, if root runs this command: then it runs the product's code.
fn user_to_run_as(config: &Config) -> Result<Option<User>, String> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let name = &config.settings.user;
    match User::from_name(name) {
        Ok(Some(user)) if user.uid.is_root() => {
            Err(format!("the setting user is '{name}', and root does not run the product's code here"))
        }
        Ok(Some(user)) => Ok(Some(user)),
        Ok(None) => Err(format!("there is no user '{name}' on this machine (setting user)")),
        Err(error) => Err(format!("the user '{name}' cannot be looked up: {error}")),
    }
}

/// The message of a program that gives up; modules may have warned before.
fn last_line(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(printable(last))
}

/// A message of the product without characters that command a terminal, or turn the direction of its text.
fn printable(message: &str) -> String {
    message.chars().filter(|character| is_printable(*character)).take(MAX_MESSAGE_CHARS).collect()
}

fn is_printable(character: char) -> bool {
    matches!(character, '\'' | '"' | '\\') || character.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read() {
        let text = "route GET:pn /a/{x}\nroute PUT /a/{x}\ndirectory /js/ /usr/share/a b\nfile /x /y\npage /\n\
            note some text\nend\n";
        let installed = InstalledProduct::parse(text).unwrap();
        let key = |verb: &str| ("/a/{x}".to_owned(), verb.to_owned());
        assert_eq!(installed.methods[&key("GET")].flags(), "pn");
        assert_eq!(installed.methods[&key("PUT")].flags(), "");
        let served: Vec<_> = installed.served.iter().map(|it| (it.kind, &*it.url, &*it.path)).collect();
        let expected = [
            (ServedKind::Directory, "/js/", "/usr/share/a b"),
            (ServedKind::File, "/x", "/y"),
            (ServedKind::Page, "/", ""),
        ];
        assert_eq!(served, expected);
        assert_eq!(installed.notes, ["some text"]);
    }

    #[test]
    fn messages_command_no_terminal() {
        let note = format!("\u{1b}]0;a\u{7}\u{9b}1m 'b' \\ \u{202e}\"é\"{}", "x".repeat(1000));
        let text = format!("route GET /a\nnote {note}\nend\n");
        let installed = InstalledProduct::parse(&text).unwrap();
        let shown = &installed.notes[0];
        assert!(shown.starts_with("]0;a1m 'b' \\ \"é\"xxx"), "{shown}");
        assert_eq!(shown.chars().count(), MAX_MESSAGE_CHARS);
    }

    #[test]
    fn other_descriptions_are_refused() {
        let cases = [
            ("", "not complete"),
            ("route GET /a\n", "not complete"),
            ("end\n", "no route"),
            ("route GET /a\nend\nroute GET /b\n", "line 3"),
            ("route GET a\nend\n", "line 1"),
            ("route GET /a b\nend\n", "line 1"),
            ("route FETCH /a\nend\n", "must be GET"),
            ("route GET:z /a\nend\n", "unknown flag 'z'"),
            ("directory /a\nend\n", "line 1"),
            ("page\nend\n", "line 1"),
            ("route GET /a\tPUT:o\nend\n", "cannot be shown"),
            ("route GET /a\u{85}PUT:o\nend\n", "cannot be shown"),
            ("route GET /a\u{1b}[31m\nend\n", "cannot be shown"),
            ("page /\u{202e}\nend\n", "cannot be shown"),
            ("{\"data\":[]}\n", "line 1"),
        ];
        for (text, part) in cases {
            let error = InstalledProduct::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_last_line_is_the_message() {
        let stderr = b"a warning\nthe module X cannot be loaded\x1b[1m: why\n\n";
        assert_eq!(last_line(stderr).unwrap(), "the module X cannot be loaded[1m: why");
        assert_eq!(last_line(b"\n "), None);
    }
}
