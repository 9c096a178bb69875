//! The release of Debian that the tests run on.

/// The number of this machine's Debian, 0 if it is another system.
pub fn debian() -> u32 {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let number =
        release.lines().find_map(|line| line.strip_prefix("VERSION_ID=\"")?.strip_suffix('"')?.parse().ok());
    number.filter(|_| release.lines().any(|line| line == "ID=debian")).unwrap_or(0)
}
