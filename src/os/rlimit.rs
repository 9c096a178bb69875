//! How many descriptors the process may have: as many as the system lets it, whatever it was started with.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a system gives at the least (POSIX `_POSIX_OPEN_MAX` is 20, Linux starts with more).
const FEW: u64 = 256;

/// Raises the soft limit to the hard one, and tells it. Nothing here uses `select`, for which the soft one is low.
pub fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return FEW };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// The limit in force.
pub fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(FEW, |(soft, _)| soft)
}
