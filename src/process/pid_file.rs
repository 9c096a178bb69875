//! The pid file, written only on the product's own port so that a trial on another port disturbs nothing.

use std::path::{Path, PathBuf};

use crate::config::Config;

/// Removes the file when dropped, if it still names this process.
pub struct PidFile(PathBuf);

impl PidFile {
    pub fn write(config: &Config) -> Option<Self> {
        let path = Self::place(config)?;
        match std::fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                tracing::warn!("pid file {} cannot be written: {error}", path.display());
                None
            }
        }
    }

    /// Where it belongs, if anywhere.
    pub fn place(config: &Config) -> Option<PathBuf> {
        let is_own_port = config.settings.listen.port == config.own_port;
        config.product.pid_file.as_ref().filter(|_| is_own_port).map(|path| config.root.path(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let ours =
            std::fs::read_to_string(&self.0).is_ok_and(|text| text.trim().parse() == Ok(std::process::id()));
        if ours {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}
