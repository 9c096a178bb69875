//! The pid file, written only on the product's own port so that a trial on another port disturbs nothing.

use std::path::PathBuf;

use crate::config::Config;

/// Removes the file when dropped, if it still names this process.
pub struct PidFile(PathBuf);

impl PidFile {
    pub fn write(config: &Config) -> Option<Self> {
        if config.settings.listen.port != config.own_port {
            return None;
        }
        let path = config.root.path(config.product.pid_file.as_ref()?);
        match std::fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                tracing::warn!("pid file {} cannot be written: {error}", path.display());
                None
            }
        }
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
