//! Figures of the kernel on a process and its children: memory, CPU seconds.

use std::fs;

use anyhow::{Context as _, Result};

/// Of the figures in `stat`, a second: part of the kernel's interface.
const TICKS: f64 = 100.0;

/// Bytes of a process and all below it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Shared pages counted in part.
    pub(crate) pss: u64,
    /// Shared pages counted in full, in each process.
    pub(crate) rss: u64,
}

/// Processes that end during the count add nothing.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let rollup = |pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    rollup(pid).with_context(|| format!("memory of process {pid}"))?;
    let texts = family(pid).into_iter().filter_map(|pid| rollup(pid).ok());
    Ok(texts.fold(Memory::default(), |sum, text| Memory {
        pss: sum.pss + field(&text, "Pss:"),
        rss: sum.rss + field(&text, "Rss:"),
    }))
}

/// Bytes that a process and all below it have for themselves, and what `top` shows of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Private {
    /// Private pages of mappings without a file.
    pub(crate) anonymous: u64,
    /// Pages of a file that the process has written to: relocations and variables of programs and libraries.
    pub(crate) copied: u64,
    pub(crate) rss: u64,
}

/// Processes that end during the count add nothing.
pub(crate) fn private(pid: u32) -> Result<Private> {
    let maps = |pid| fs::read_to_string(format!("/proc/{pid}/smaps"));
    maps(pid).with_context(|| format!("mappings of process {pid}"))?;
    let texts = family(pid).into_iter().filter_map(|pid| maps(pid).ok());
    Ok(texts.map(|text| add_mappings(&text)).fold(Private::default(), |sum, one| Private {
        anonymous: sum.anonymous + one.anonymous,
        copied: sum.copied + one.copied,
        rss: sum.rss + one.rss,
    }))
}

/// The sum of a whole `smaps`. A mapping begins with `ADDRESSES PERMISSIONS OFFSET DEVICE INODE [PATH]`.
fn add_mappings(smaps: &str) -> Private {
    let mut sum = Private::default();
    let (mut has_file, mut is_shared) = (false, false);
    for line in smaps.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [name, kilobytes, "kB"] => {
                let bytes = kilobytes.parse::<u64>().unwrap_or_default() * 1024;
                match name {
                    "Rss:" => sum.rss += bytes,
                    "Private_Dirty:" | "Private_Clean:" if !has_file => sum.anonymous += bytes,
                    "Private_Dirty:" if !is_shared => sum.copied += bytes,
                    _ => {}
                }
            }
            [range, permissions, _, _, inode, ..] if range.contains('-') => {
                (has_file, is_shared) = (inode != "0", permissions.ends_with('s'));
            }
            _ => {}
        }
    }
    sum
}

/// Seconds of CPU since the start, of a process and all below it that live.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    /// The kernel's work for it.
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn all(self) -> f64 {
        self.user + self.system
    }
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

pub(crate) fn cpu(pid: u32) -> Result<Cpu> {
    let own = ticks_of(pid).with_context(|| format!("CPU time of process {pid}"))?;
    let below = family(pid).into_iter().filter(|other| *other != pid).filter_map(ticks_of);
    let (user, system) = below.fold(own, |(user, system), (more, kernel)| (user + more, system + kernel));
    Ok(Cpu { user: f64::from(user) / TICKS, system: f64::from(system) / TICKS })
}

pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    cpu(pid).map(Cpu::all)
}

/// The process, its children and theirs.
fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            family.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    family
}

/// A line of `smaps_rollup`, in bytes.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// The fields 14 and 15 of `stat`, counted behind the name, which may hold anything.
fn ticks_of(pid: u32) -> Option<(u32, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((user, system))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d000-55e000 rw-p 00001000 fe:00 123   /usr/bin/program
Rss:                   8 kB
Private_Clean:         4 kB
Private_Dirty:         4 kB
VmFlags: rd wr mr mw me ac
7f0000-7f1000 rw-p 00000000 00:00 0
Rss:                  12 kB
Private_Clean:         1 kB
Private_Dirty:        11 kB
7f2000-7f3000 rw-s 00000000 00:01 77   /dev/zero (deleted)
Rss:                 100 kB
Private_Dirty:       100 kB
";

    #[test]
    fn only_pages_without_a_file_are_anonymous() {
        let sum = add_mappings(SMAPS);
        assert_eq!((sum.anonymous, sum.copied, sum.rss), (12 << 10, 4 << 10, 120 << 10));
    }
}
