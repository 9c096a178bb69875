//! Whether there is room for the access log: every client makes it grow.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::{Statvfs, statvfs};

use crate::config::Config;
use crate::config::diagnostic::Diagnostic;

/// A file system with less than both is nearly full.
const LEAST_PERCENT: u64 = 10;
const LEAST_BYTES: u64 = 2 << 30;
const LEAST_INODES: u64 = 10_000;

const MIB: u64 = 1 << 20;

/// Warnings about the file system of the log.
pub(crate) fn problems(config: &Config) -> Vec<Diagnostic> {
    let Some(log) = config.settings.access_log.as_deref() else { return Vec::new() };
    let Some(space) = DiskSpace::around(log) else { return Vec::new() };
    let warning = |message| Diagnostic::warning(config.origin("log.access"), "log.access", message);
    let room = space.room().map(|text| format!("{text}; lines are lost when it is full"));
    let inodes = space.inodes().map(|text| format!("{text}; without one no new log can be opened"));
    room.into_iter().chain(inodes).map(warning).collect()
}

/// The space of a file system.
pub(in crate::cli) struct DiskSpace {
    place: PathBuf,
    disk: Statvfs,
}

impl DiskSpace {
    /// Of the file, or of the first directory above it that exists.
    pub(in crate::cli) fn around(path: &Path) -> Option<Self> {
        path.ancestors().find_map(|place| Some(Self { place: place.to_owned(), disk: statvfs(place).ok()? }))
    }

    /// Bytes that users may write.
    pub(in crate::cli) fn free(&self) -> u64 {
        self.disk.blocks_available().saturating_mul(self.disk.fragment_size())
    }

    /// Why there is too little room, if there is.
    pub(in crate::cli) fn room(&self) -> Option<String> {
        let (block, free) = (self.disk.fragment_size(), self.disk.blocks_available());
        // As df counts: blocks that only root may use are neither free nor part of the whole.
        let whole = self.disk.blocks().saturating_sub(self.disk.blocks_free()).saturating_add(free);
        let percent = share(free, whole)?;
        let (free, whole) = (free.saturating_mul(block), whole.saturating_mul(block));
        (percent < LEAST_PERCENT && free < LEAST_BYTES).then(|| {
            format!(
                "the file system of {} is nearly full: {} MiB of {} MiB ({percent} %) are free",
                self.place.display(),
                free / MIB,
                whole / MIB
            )
        })
    }

    /// Why there are too few inodes, if there are.
    pub(in crate::cli) fn inodes(&self) -> Option<String> {
        let (free, whole) = (self.disk.files_available(), self.disk.files());
        let percent = share(free, whole)?;
        (percent < LEAST_PERCENT && free < LEAST_INODES).then(|| {
            format!(
                "the file system of {} has nearly no inodes left: {free} of {whole} ({percent} %) are free",
                self.place.display()
            )
        })
    }
}

/// `None` if the file system does not count.
fn share(free: u64, whole: u64) -> Option<u64> {
    free.min(whole).saturating_mul(100).checked_div(whole)
}
