//! What the kernel says of a process: memory, CPU seconds.

use std::fs;

use anyhow::{Context as _, Result};

/// Proportional set size in bytes, children included.
pub(crate) fn pss(pid: u32) -> Result<u64> {
    family(pid).into_iter().map(|pid| kilobytes(pid, "smaps_rollup", "Pss:")).sum()
}

/// The largest resident set so far in bytes, of the process alone.
pub(crate) fn rss_peak(pid: u32) -> Result<u64> {
    kilobytes(pid, "status", "VmHWM:")
}

/// User and system time so far, children included.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock tick")?;
    let mut sum = 0.0;
    for pid in family(pid) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may hold blanks; the fields after it are counted from the third.
        let (_, fields) = stat.rsplit_once(')').context("an odd stat line")?;
        for field in fields.split_ascii_whitespace().skip(11).take(2) {
            sum += field.parse::<f64>()?;
        }
    }
    Ok(sum / f64::from(i32::try_from(ticks)?))
}

/// The process, then those it has started.
fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        found.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    found
}

fn kilobytes(pid: u32, file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_ascii_whitespace().next()).context("an odd /proc file")?;
    Ok(number.parse::<u64>()? * 1024)
}
