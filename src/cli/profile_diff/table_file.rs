//! The route table of the installed product as a file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::installed::InstalledProduct;

/// Every user may read it, whatever the umask is: the serving user reads it at each reload.
const MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// A line for each path, as docs/reference/profile.md describes it. `added` are the lines of directories and files.
pub(super) fn render(profile: &str, installed: &InstalledProduct, added: &[String]) -> String {
    let mut paths: BTreeMap<&str, String> = BTreeMap::new();
    for ((path, verb), method) in &installed.methods {
        let flags = method.flags();
        let colon = if flags.is_empty() { "" } else { ":" };
        let _ = write!(paths.entry(path).or_default(), " {verb}{colon}{flags}");
    }
    let mut text =
        format!("# The routes of the installed product, written by `nodegate profile-diff {profile}`.\n");
    for (package, version) in &installed.packages {
        let _ = writeln!(text, "# made from {package} {version}");
    }
    for line in added {
        let _ = writeln!(text, "{line}");
    }
    for (path, methods) in paths {
        let _ = writeln!(text, "{path}{methods}");
    }
    text
}

/// Writes the file completely or not at all. An existing file is replaced, and a missing directory is made: the one for
/// settings is not part of a package. A symbolic link is replaced too: a user could have put it in the way of root.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    // Root could replace /dev/null.
    if fs::metadata(path).is_ok_and(|existing| !existing.is_file()) {
        return Err(io::Error::other("it is not a file"));
    }
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        make_directory(directory)?;
    }
    let new = beside(path)?;
    let written = write_new(&new, text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it is not the path of a file"))?;
    let name = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    Ok(path.with_file_name(name))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::route_table::{RouteTable, parse_method};

    fn installed(routes: &[(&str, &str)]) -> InstalledProduct {
        let mut installed = InstalledProduct::default();
        for (word, path) in routes {
            let (verb, method) = parse_method(word).unwrap();
            installed.methods.insert(((*path).to_owned(), verb), method);
        }
        installed.packages.insert("some-package".to_owned(), "1.2-3".to_owned());
        installed
    }

    #[test]
    fn the_file_is_a_route_table() {
        let installed = installed(&[("PUT:pn", "/b/{x}"), ("GET", "/b/{x}"), ("GET:o", "/a")]);
        let text = render("p", &installed, &["directory /new/ /usr/share/new".to_owned()]);
        let lines: Vec<_> = text.lines().skip(1).collect();
        let expected = [
            "# made from some-package 1.2-3",
            "directory /new/ /usr/share/new",
            "/a GET:o",
            "/b/{x} GET PUT:pn",
        ];
        assert_eq!(lines, expected);
        let table = RouteTable::parse(&text).unwrap();
        assert_eq!((table.methods().len(), table.made_from["some-package"].as_str()), (3, "1.2-3"));
    }

    #[test]
    fn only_files_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/null", path("device")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        for name in ["fifo", "device", "directory"] {
            assert_eq!(write(&path(name), "").unwrap_err().to_string(), "it is not a file", "{name}");
        }
        assert!(path("device").is_symlink(), "it is kept");
        fs::write(path("target"), "other").unwrap();
        for (name, target) in [("link", "target"), ("dangling", "missing")] {
            std::os::unix::fs::symlink(path(target), path(name)).unwrap();
            write(&path(name), "/a GET\n").unwrap();
            assert_eq!(fs::read_to_string(path(name)).unwrap(), "/a GET\n", "{name}");
        }
        assert_eq!(
            (fs::read_to_string(path("target")).unwrap().as_str(), path("missing").exists()),
            ("other", false)
        );
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/x.routes");
        for _ in 0..2 {
            write(&path, "/a GET\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "/a GET\n");
        }
        assert!(write(&directory.path().join("missing/y/x"), "").is_err());
        assert_eq!(fs::read_dir(directory.path().join("made")).unwrap().count(), 1, "no file is left over");
    }
}
