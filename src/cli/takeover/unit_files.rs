//! The files that decide what a daemon's unit runs: drop-ins, and links to `/dev/null` that hide drop-ins.
//!
//! Of files with one name systemd reads that in /etc, else that in /run, else that in /usr/local/lib, else that in
//! /usr/lib (`systemd.unit(5)`).

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::drop_ins;

const ETC: &str = "etc/systemd/system";
const RUN: &str = "run/systemd/system";
const LOCAL: &str = "usr/local/lib/systemd/system";
const PACKAGED: &str = "usr/lib/systemd/system";
/// The drop-ins of a takeover, and those that only /run has: of a trial and of the fallback.
const NAMES: [&str; 3] = ["nodegate.conf", "nodegate-takeover.conf", "nodegate-hardening.conf"];
const TRIAL: &str = "nodegate-trial.conf";
const FALLBACK: &str = "nodegate-fallback.conf";
const NOTHING: &str = "/dev/null";

/// The program that the unit runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Placement {
    Original,
    /// the original until the next boot, because nodegate failed
    Fallback,
    /// nodegate until the trial ends
    Trial,
    /// nodegate
    Nodegate,
}

/// The files of one unit.
#[derive(Clone, Debug)]
pub(super) struct UnitFiles {
    root: PathBuf,
    daemon: String,
}

/// Files as they were.
pub(super) struct Snapshot(Vec<(PathBuf, SavedFile)>);

#[derive(Debug, Eq, PartialEq)]
enum SavedFile {
    Absent,
    Link(PathBuf),
    Text(Vec<u8>),
}

impl UnitFiles {
    pub(super) fn new(root: &Path, daemon: &str) -> Self {
        Self { root: root.to_owned(), daemon: daemon.to_owned() }
    }

    pub(super) fn placement(&self) -> Placement {
        let [name, ..] = NAMES;
        let exists = |level: &str| fs::symlink_metadata(self.path(level, name)).is_ok();
        let is_hidden = |level: &str| is_nothing(&self.path(level, name));
        if self.is_trial() {
            Placement::Trial
        } else if is_hidden(ETC) || !(exists(LOCAL) || exists(PACKAGED)) {
            Placement::Original
        } else if is_hidden(RUN) {
            Placement::Fallback
        } else {
            Placement::Nodegate
        }
    }

    pub(super) fn is_trial(&self) -> bool {
        self.path(RUN, TRIAL).exists()
    }

    /// Whether a package has the drop-ins.
    pub(super) fn is_packaged(&self) -> bool {
        let [name, ..] = NAMES;
        self.path(PACKAGED, name).exists()
    }

    pub(super) fn place_trial(&self, text: &str) -> io::Result<()> {
        write(&self.path(RUN, TRIAL), text)
    }

    /// Makes the unit the original's, also after a reboot and an upgrade of packages.
    pub(super) fn place_original(&self) -> io::Result<()> {
        self.clear_run()?;
        for name in NAMES {
            remove(&self.path(LOCAL, name))?;
            if self.path(PACKAGED, name).exists() {
                self.hide(name)?;
            }
        }
        self.remove_empty(LOCAL)
    }

    /// Makes the unit nodegate's, also after a reboot: by the drop-ins of a package, or by these.
    pub(super) fn place_nodegate(&self, drop_ins: &[(&'static str, String)]) -> io::Result<()> {
        let is_packaged = self.is_packaged();
        for (name, text) in drop_ins {
            let hidden = self.path(ETC, name);
            if is_nothing(&hidden) {
                remove(&hidden)?;
            }
            if !is_packaged {
                write(&self.path(LOCAL, name), text)?;
            }
        }
        if !is_packaged {
            self.place_fallback_unit()?;
        }
        self.clear_run()?;
        self.remove_empty(ETC)
    }

    /// Writes a unit that a reboot removes.
    pub(super) fn place_runtime_unit(&self, name: &str, text: &str) -> io::Result<()> {
        write(&self.root.join(RUN).join(name), text)
    }

    pub(super) fn remove_runtime_unit(&self, name: &str) -> io::Result<()> {
        remove(&self.root.join(RUN).join(name))
    }

    /// Removes the local copy of the fallback if no unit needs it.
    pub(super) fn remove_unused_fallback(&self) -> io::Result<()> {
        let [name, ..] = NAMES;
        let local = self.root.join(LOCAL);
        let units = fs::read_dir(&local).into_iter().flatten().flatten();
        if units.map(|unit| unit.path().join(name)).any(|path| path.exists()) {
            return Ok(());
        }
        remove(&local.join(drop_ins::FALLBACK_UNIT))?;
        let script = self.below_root(drop_ins::LOCAL_SCRIPT);
        remove(&script)?;
        // Where the guard may not write, an empty directory stays.
        for directory in local.ancestors().take(2) {
            let _ = remove_directory(directory);
        }
        script.parent().map_or(Ok(()), remove_directory)
    }

    pub(super) fn snapshot(&self) -> io::Result<Snapshot> {
        let levels = [ETC, RUN, LOCAL].into_iter();
        let paths = levels.flat_map(|level| {
            NAMES.into_iter().chain([TRIAL, FALLBACK]).map(move |name| self.path(level, name))
        });
        let saved = paths.map(|path| SavedFile::read(&path).map(|file| (path, file)));
        saved.collect::<io::Result<_>>().map(Snapshot)
    }

    pub(super) fn restore(&self, Snapshot(files): &Snapshot) -> io::Result<()> {
        for (path, saved) in files {
            if SavedFile::read(path)? == *saved {
                continue;
            }
            remove(path)?;
            match saved {
                SavedFile::Absent => (),
                SavedFile::Link(target) => {
                    make_parent(path)?;
                    symlink(target, path)?;
                }
                SavedFile::Text(text) => {
                    make_parent(path)?;
                    fs::write(path, text)?;
                }
            }
        }
        [ETC, RUN, LOCAL].into_iter().try_for_each(|level| self.remove_empty(level))
    }

    fn clear_run(&self) -> io::Result<()> {
        for name in NAMES.into_iter().chain([TRIAL, FALLBACK]) {
            remove(&self.path(RUN, name))?;
        }
        self.remove_empty(RUN)
    }

    fn hide(&self, name: &str) -> io::Result<()> {
        let path = self.path(ETC, name);
        // The guard of a trial may not write here.
        if is_nothing(&path) {
            return Ok(());
        }
        remove(&path)?;
        make_parent(&path)?;
        symlink(NOTHING, &path)
    }

    fn place_fallback_unit(&self) -> io::Result<()> {
        if self.below_root(drop_ins::PACKAGE_SCRIPT).exists() {
            return Ok(());
        }
        let script = self.below_root(drop_ins::LOCAL_SCRIPT);
        write(&script, drop_ins::FALLBACK_SCRIPT)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        write(&self.root.join(LOCAL).join(drop_ins::FALLBACK_UNIT), &drop_ins::local_fallback_unit())
    }

    fn remove_empty(&self, level: &str) -> io::Result<()> {
        remove_directory(&self.directory(level))
    }

    fn directory(&self, level: &str) -> PathBuf {
        self.root.join(level).join(format!("{}.service.d", self.daemon))
    }

    fn path(&self, level: &str, name: &str) -> PathBuf {
        self.directory(level).join(name)
    }

    fn below_root(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }
}

impl SavedFile {
    fn read(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => fs::read_link(path).map(Self::Link),
            Ok(_) => fs::read(path).map(Self::Text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::Absent),
            Err(error) => Err(named(path, &error)),
        }
    }
}

fn is_nothing(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target == Path::new(NOTHING))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    make_parent(path)?;
    fs::write(path, text).map_err(|error| named(path, &error))
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|error| named(path, &error))
}

/// A file that is absent is removed already, also in a directory that this process may not write to.
fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(());
    }
    fs::remove_file(path).map_err(|error| named(path, &error))
}

/// A directory with other files stays.
fn remove_directory(path: &Path) -> io::Result<()> {
    let is_empty = fs::read_dir(path).is_ok_and(|mut files| files.next().is_none());
    if is_empty { fs::remove_dir(path).map_err(|error| named(path, &error)) } else { Ok(()) }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [(&str, &str); 3] = [(NAMES[0], "a\n"), (NAMES[1], "b\n"), (NAMES[2], "c\n")];

    struct Machine {
        folder: tempfile::TempDir,
        files: UnitFiles,
    }

    impl Machine {
        fn new(packages: bool) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let files = UnitFiles::new(folder.path(), "d");
            for name in NAMES.into_iter().filter(|_| packages) {
                write(&files.path(PACKAGED, name), "packaged").unwrap();
            }
            Self { folder, files }
        }

        fn take_over(&self) {
            self.files.place_nodegate(&TEXTS.map(|(name, text)| (name, text.to_owned()))).unwrap();
        }

        /// Every file but those of the packages, from the root.
        fn left(&self) -> Vec<String> {
            let mut waiting = vec![self.folder.path().to_owned()];
            let mut found = Vec::new();
            while let Some(path) = waiting.pop() {
                if path.is_dir() && !path.is_symlink() {
                    waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
                } else {
                    found.push(path.strip_prefix(self.folder.path()).unwrap().display().to_string());
                }
            }
            found.retain(|path| !path.starts_with(PACKAGED));
            found.sort();
            found
        }
    }

    #[test]
    fn without_packages_a_takeover_is_local_files() {
        let machine = Machine::new(false);
        assert_eq!(machine.files.placement(), Placement::Original);
        machine.files.place_trial("t").unwrap();
        assert_eq!(machine.files.placement(), Placement::Trial);
        assert_eq!(machine.left(), ["run/systemd/system/d.service.d/nodegate-trial.conf"]);
        machine.take_over();
        assert_eq!(machine.files.placement(), Placement::Nodegate);
        assert_eq!(machine.left().len(), 5, "{:?}", machine.left());
        assert!(machine.left().iter().all(|path| path.starts_with("usr/local/lib/")), "{:?}", machine.left());
        machine.files.place_original().unwrap();
        machine.files.remove_unused_fallback().unwrap();
        assert_eq!(machine.files.placement(), Placement::Original);
        assert!(machine.left().is_empty(), "{:?}", machine.left());
    }

    #[test]
    fn the_files_of_packages_are_hidden_in_etc() {
        let machine = Machine::new(true);
        assert_eq!(machine.files.placement(), Placement::Nodegate);
        machine.files.place_original().unwrap();
        assert_eq!(machine.files.placement(), Placement::Original);
        assert_eq!(machine.left().len(), 3);
        assert!(NAMES.iter().all(|name| is_nothing(&machine.files.path(ETC, name))));
        machine.files.place_original().unwrap();
        machine.files.place_trial("t").unwrap();
        assert_eq!(machine.files.placement(), Placement::Trial);
        machine.take_over();
        assert_eq!(machine.files.placement(), Placement::Nodegate);
        assert!(machine.left().is_empty(), "{:?}", machine.left());
    }

    #[test]
    fn the_fallback_ends_with_either_command() {
        for packages in [true, false] {
            let machine = Machine::new(packages);
            if !packages {
                machine.take_over();
            }
            let fall_back = || {
                for name in NAMES {
                    make_parent(&machine.files.path(RUN, name)).unwrap();
                    symlink(NOTHING, machine.files.path(RUN, name)).unwrap();
                }
                write(&machine.files.path(RUN, FALLBACK), "x").unwrap();
                assert_eq!(machine.files.placement(), Placement::Fallback);
            };
            fall_back();
            machine.take_over();
            assert_eq!(machine.files.placement(), Placement::Nodegate);
            fall_back();
            machine.files.place_original().unwrap();
            assert_eq!(machine.files.placement(), Placement::Original);
        }
    }

    #[test]
    fn a_snapshot_brings_every_file_back() {
        let machine = Machine::new(true);
        machine.files.place_original().unwrap();
        machine.files.place_trial("t").unwrap();
        let (before, snapshot) = (machine.left(), machine.files.snapshot().unwrap());
        machine.take_over();
        machine.files.restore(&snapshot).unwrap();
        assert_eq!(machine.left(), before);
        assert_eq!(machine.files.placement(), Placement::Trial);
    }

    #[test]
    fn files_of_the_admin_stay() {
        let machine = Machine::new(false);
        let own = machine.files.path(ETC, "override.conf");
        write(&own, "own").unwrap();
        machine.take_over();
        machine.files.place_original().unwrap();
        assert!(own.exists());
    }
}
