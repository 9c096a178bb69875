//! The free space for the access log and for uploads.

use std::path::Path;

use super::finding::Finding;
use super::subject::Subject;
use crate::cli::check::log_disk::DiskSpace;

const MIB: u64 = 1 << 20;

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    let config = &subject.config;
    let log = config.settings.access_log.as_deref();
    // `check` has the findings of the log's disk.
    let of_log = log.map(|log| match DiskSpace::around(log) {
        Some(space) if space.room().or(space.inodes()).is_some() => None,
        Some(space) => Some(Finding::ok(format!("{} MiB free for {}", space.free() / MIB, log.display()))),
        None => Some(Finding::note(format!("the disk of {} cannot be read", log.display()))),
    });
    let upload = config.product.upload.as_ref();
    let of_spool = upload.map(|upload| {
        let spool = config.root.path(&upload.spool);
        spool_finding(spool.parent().unwrap_or(Path::new("/")), upload.reserve)
    });
    of_log.flatten().into_iter().chain(of_spool).collect()
}

/// Uploads leave `reserve` bytes free.
fn spool_finding(directory: &Path, reserve: u64) -> Finding {
    let Some(space) = DiskSpace::around(directory) else {
        return Finding::note(format!("the disk of {} cannot be read", directory.display()));
    };
    let place = directory.display();
    evaluate(&place.to_string(), space.free(), reserve, space.room().or(space.inodes()))
}

fn evaluate(place: &str, free: u64, reserve: u64, short: Option<String>) -> Finding {
    let mend = format!("df -h {place}; du -xh {place} | sort -h | tail");
    if free <= reserve {
        return Finding::error(format!(
            "{place} has {} MiB free, and {} MiB stay reserved: no upload is accepted",
            free / MIB,
            reserve / MIB
        ))
        .because("uploads of images and templates fail with 413 or 507")
        .mend(mend);
    }
    match short {
        Some(short) => Finding::warning(short).because("larger uploads fail with 413 or 507").mend(mend),
        None => Finding::ok(format!("{} MiB free for uploads in {place}", (free - reserve) / MIB)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn the_reserve_counts() {
        let level =
            |free, short: Option<&str>| evaluate("/var/tmp", free, 256 * MIB, short.map(str::to_owned)).level;
        assert_eq!(level(256 * MIB, None), Level::Error);
        assert_eq!(level(257 * MIB, Some("nearly full")), Level::Warning);
        assert_eq!(level(257 * MIB, None), Level::Ok);
    }
}
