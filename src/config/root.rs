//! `--root DIR`: every absolute path of profile and settings is looked up under DIR.

use std::path::{Path, PathBuf};

/// The directory that stands for `/`.
#[derive(Clone, Debug)]
pub struct RootDirectory(PathBuf);

impl RootDirectory {
    /// Paths of the configuration lie below `directory`.
    pub fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Whether paths stay as they are.
    pub fn is_system(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The real path of an absolute path in the profile or in a setting.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.0.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }
}

impl Default for RootDirectory {
    fn default() -> Self {
        Self::new(PathBuf::from("/"))
    }
}
