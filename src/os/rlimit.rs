//! The limit of descriptors: as high as the system allows, independent of the soft limit at the start.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Used if the limit cannot be read (POSIX `_POSIX_OPEN_MAX` is 20, Linux starts with more).
const DEFAULT_DESCRIPTORS: u64 = 256;

/// Raises the soft limit to the hard one, and returns it. The soft limit is low only for programs with `select`.
pub fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return DEFAULT_DESCRIPTORS };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

pub fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(DEFAULT_DESCRIPTORS, |(soft, _)| soft)
}
