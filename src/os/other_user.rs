//! Whether another user can read or write a file. Root tries it as that user, so access lists, mount options and security
//! modules count. Without root, owner, group and mode decide.

use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use nix::unistd::{AccessFlags, User, access, geteuid, getgrouplist};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

const READ: u32 = 4;
const WRITE: u32 = 2;
const SEARCH: u32 = 1;

/// A user with all groups.
#[derive(Clone)]
pub struct OtherUser {
    pub name: String,
    user: u32,
    group: u32,
    groups: Vec<u32>,
}

impl OtherUser {
    /// `None` for root, which may read everything, and for a user that does not exist.
    pub fn find(name: &str) -> Option<Self> {
        let user = User::from_name(name).ok().flatten().filter(|user| !user.uid.is_root())?;
        let groups = getgrouplist(&CString::new(name).ok()?, user.gid).ok()?;
        let groups = groups.iter().map(|group| group.as_raw()).collect();
        Some(Self { name: name.to_owned(), user: user.uid.as_raw(), group: user.gid.as_raw(), groups })
    }

    /// The existing files that the user cannot read, each with the reason.
    pub fn unreadable(&self, files: &[PathBuf]) -> Vec<(PathBuf, String)> {
        let tried = if geteuid().is_root() { self.try_all(files) } else { None };
        let reasons = files.iter().enumerate().map(|(place, file)| match tried.as_ref() {
            Some(errors) => {
                let error = errors.get(place)?.as_ref()?;
                Some(self.obstacle(file).unwrap_or_else(|| format!(" ({error})")))
            }
            None => self.obstacle(file),
        });
        let unreadable = files.iter().zip(reasons).filter(|(file, _)| file.exists());
        unreadable.filter_map(|(file, reason)| Some((file.clone(), reason?))).collect()
    }

    /// Whether the user may write to a file or a directory. Root tries it as that user; otherwise owner, group and mode
    /// decide.
    pub fn may_write(&self, path: &Path) -> bool {
        let (user, tried) = (self.clone(), path.to_owned());
        let writer = geteuid().is_root().then(|| {
            thread::spawn(move || {
                user.become_in_this_thread().ok()?;
                Some(access(&tried, AccessFlags::W_OK).is_ok())
            })
        });
        let tried = writer.and_then(|writer| writer.join().ok().flatten());
        tried.unwrap_or_else(|| std::fs::metadata(path).is_ok_and(|metadata| self.may(WRITE, &metadata)))
    }

    /// The error of each file, tried in a thread that becomes the user and ends. `None` if no thread can do that.
    fn try_all(&self, files: &[PathBuf]) -> Option<Vec<Option<io::Error>>> {
        let (user, files) = (self.clone(), files.to_vec());
        let reader = thread::spawn(move || {
            user.become_in_this_thread().ok()?;
            Some(files.iter().map(|file| read_some(file).err()).collect())
        });
        reader.join().ok().flatten()
    }

    /// Changes the user of this thread only. The kernel keeps users by thread; the C library would change all
    /// threads.
    fn become_in_this_thread(&self) -> io::Result<()> {
        let groups: Vec<_> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group));
        set_thread_groups(&groups)?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
        Ok(())
    }

    /// The reason by owner, group and mode.
    fn obstacle(&self, path: &Path) -> Option<String> {
        let file = std::fs::metadata(path).ok()?;
        let is_closed = |directory: &&Path| {
            std::fs::metadata(directory).is_ok_and(|metadata| !self.may(SEARCH, &metadata))
        };
        match path.ancestors().skip(1).find(is_closed) {
            Some(directory) => Some(format!(" ({} is closed to it)", directory.display())),
            None if self.may(READ, &file) => None,
            None => Some(format!(" (mode {:04o})", file.mode() & 0o7777)),
        }
    }

    fn may(&self, right: u32, metadata: &Metadata) -> bool {
        let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
        let bits = if owner == self.user {
            mode >> 6
        } else if self.groups.contains(&group) {
            mode >> 3
        } else {
            mode
        };
        bits & right != 0
    }
}

/// A directory instead of a file, or a missing file, is not a matter of rights.
fn read_some(path: &Path) -> io::Result<()> {
    match File::open(path).and_then(|mut file| file.read(&mut [0])) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

/// Whether every user of this machine can read the file.
pub fn is_public(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & READ != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn root_finds_out_by_trying() {
        let allow_skip = std::env::var_os("NODEGATE_ALLOW_SKIP").is_some_and(|value| value == "1");
        if !geteuid().is_root() && allow_skip {
            eprintln!("SKIPPED: this test needs root");
            return;
        }
        assert!(geteuid().is_root(), "this test needs root; to skip it set NODEGATE_ALLOW_SKIP=1");
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let file = |name: &str, mode: u32| {
            let path = directory.path().join(name);
            std::fs::write(&path, "x").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let files = [file("open", 0o644), file("closed", 0o600), directory.path().join("missing")];
        let nobody = OtherUser::find("nobody").unwrap();
        let unreadable = nobody.unreadable(&files);
        assert_eq!(unreadable, [(files[1].clone(), " (mode 0600)".to_owned())]);
        let shared = file("shared", 0o666);
        assert!(nobody.may_write(&shared) && !nobody.may_write(&files[0]));
        assert!(geteuid().is_root() && std::fs::read(&files[1]).is_ok(), "this thread is who it was");
        assert!(OtherUser::find("root").is_none());
    }
}
