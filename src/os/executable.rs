//! The program file of this process, and whether it was replaced.

use std::io;
use std::path::{Path, PathBuf};

use crate::os::file_version::FileVersion;

pub struct ExecutableFile {
    path: PathBuf,
    version: FileVersion,
}

impl ExecutableFile {
    /// Call it at the start: the kernel keeps the path of the running program, but not its size and time.
    pub fn of_this_process() -> io::Result<Self> {
        let path = std::env::current_exe()?;
        Self::new(path, Path::new("/proc/self/exe"))
    }

    fn new(path: PathBuf, running: &Path) -> io::Result<Self> {
        Ok(Self { path, version: FileVersion::new(&std::fs::metadata(running)?) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its path leads to another file. A missing file is not a replacement.
    pub fn is_replaced(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|metadata| FileVersion::new(&metadata) != self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_and_missing_executables_are_detected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, "one").unwrap();
        let binary = ExecutableFile::new(path.clone(), &path).unwrap();
        assert!(!binary.is_replaced());
        std::fs::remove_file(&path).unwrap();
        assert!(!binary.is_replaced());
        let next = directory.path().join("next");
        std::fs::write(&next, "two").unwrap();
        std::fs::rename(next, &path).unwrap();
        assert!(binary.is_replaced());
    }
}
