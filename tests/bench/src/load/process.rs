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
