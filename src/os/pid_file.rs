//! The pid file. nodegate writes it only on the product's own port, so a trial does not replace it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::config::Config;

/// Removes the file when dropped, if it still names this process.
pub struct PidFile(PathBuf);

impl PidFile {
    pub fn write(config: &Config) -> Option<Self> {
        let path = Self::path_for(config)?;
        match write_new(&path) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                tracing::warn!("pid file {} cannot be written: {error}", path.display());
                None
            }
        }
    }

    /// The path of the file; `None` on another port.
    pub fn path_for(config: &Config) -> Option<PathBuf> {
        let is_own_port = config.settings.listen.port == config.own_port;
        config.product.pid_file.as_ref().filter(|_| is_own_port).map(|path| config.root.path(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Writes a new file in place of a stale one, which may belong to root: this user owns only the directory.
fn write_new(path: &Path) -> io::Result<()> {
    let new = path.with_extension("pid.new");
    fs::write(&new, format!("{}\n", std::process::id()))?;
    fs::rename(&new, path)
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let ours =
            fs::read_to_string(&self.0).is_ok_and(|text| text.trim().parse() == Ok(std::process::id()));
        if ours {
            let _ = fs::remove_file(&self.0);
        }
    }
}
