//! Whether there is room for the access log: every client makes it grow.

use std::path::Path;

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
    let Some((place, disk)) = log.ancestors().find_map(|place| Some((place, statvfs(place).ok()?))) else {
        return Vec::new();
    };
    let warning = |message| Diagnostic::warning(config.origin("log.access"), "log.access", message);
    room(place, &disk).into_iter().chain(inodes(place, &disk)).map(warning).collect()
}

fn room(place: &Path, disk: &Statvfs) -> Option<String> {
    let (block, free) = (disk.fragment_size(), disk.blocks_available());
    // As df counts: blocks that only root may use are neither free nor part of the whole.
    let whole = disk.blocks().saturating_sub(disk.blocks_free()).saturating_add(free);
    let percent = share(free, whole)?;
    let (free, whole) = (free.saturating_mul(block), whole.saturating_mul(block));
    (percent < LEAST_PERCENT && free < LEAST_BYTES).then(|| {
        format!(
            "the file system of {} is nearly full: {} MiB of {} MiB ({percent} %) are free; lines are lost when it is \
             full",
            place.display(),
            free / MIB,
            whole / MIB
        )
    })
}

fn inodes(place: &Path, disk: &Statvfs) -> Option<String> {
    let (free, whole) = (disk.files_available(), disk.files());
    let percent = share(free, whole)?;
    (percent < LEAST_PERCENT && free < LEAST_INODES).then(|| {
        format!(
            "the file system of {} has nearly no inodes left: {free} of {whole} ({percent} %) are free; without one no \
             new log can be opened",
            place.display()
        )
    })
}

/// `None` if the file system does not count.
fn share(free: u64, whole: u64) -> Option<u64> {
    free.min(whole).saturating_mul(100).checked_div(whole)
}
