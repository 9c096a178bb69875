//! The archive and its file: mode 0600, complete or not there at all, and never in place of another file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tar::{Builder, Header};

use super::BundleError;
use super::redact::Redacted;

const PRIVATE_MODE: u32 = 0o600;

/// A `.tar.gz` of the texts below one folder.
pub(super) fn compress(folder: &str, at: u64, texts: Vec<(String, Redacted)>) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in texts {
        let text = text.into_text();
        let mut header = Header::new_gnu();
        header.set_size(u64::try_from(text.len()).unwrap_or_default());
        header.set_mode(PRIVATE_MODE);
        header.set_mtime(at);
        archive.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()
}

/// The name of a profile without its folders and dots.
pub(super) fn folder_name(profile: &str) -> String {
    let stem = Path::new(profile).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// A file beside the destination. Dropping it removes it.
struct UnpublishedFile(PathBuf);

impl Drop for UnpublishedFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes beside the destination, and renames only a complete file.
pub(super) fn publish(file: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidFilename).map_err(io::Error::from)?;
    let beside = file.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let mut unpublished = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_MODE).open(&beside)?;
    let guard = UnpublishedFile(beside);
    write(&mut unpublished, bytes)?;
    match renameat2(AT_FDCWD, &guard.0, AT_FDCWD, file, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EEXIST) => Err(BundleError::Exists),
        // The file system cannot do that; a hard link does not replace a file either.
        Err(Errno::EINVAL | Errno::ENOSYS) => match fs::hard_link(&guard.0, file) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(BundleError::Exists),
            linked => Ok(linked?),
        },
        Err(error) => Err(io::Error::from(error).into()),
    }
}

fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_complete_private_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("b.tar.gz");
        publish(&file, b"one").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(publish(&file, b"two"), Err(BundleError::Exists)));
        assert_eq!(fs::read(&file).unwrap(), b"one");
        assert!(publish(&directory.path().join("no/b.tar.gz"), b"x").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_profile_gives_its_folder_a_plain_name() {
        assert_eq!(folder_name("pve"), "pve");
        assert_eq!(folder_name("/etc/nodegate/my shop.v2.toml"), "my_shop_v2");
    }
}
