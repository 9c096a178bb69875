//! What the kernel says of a process and its children: memory, CPU seconds.

use anyhow::{Context as _, Result};

/// Clock ticks of `/proc/PID/stat` (proc(5)); 100 on every Linux of today.
const TICKS: f64 = 100.0;

/// User and system time of a process and its children.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut ticks = 0.0;
    for pid in family(pid)? {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after_name = text.rsplit_once(')').context("/proc/PID/stat")?.1;
        ticks +=
            after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum::<f64>();
    }
    Ok(ticks / TICKS)
}

/// The process and those it started.
fn family(pid: u32) -> Result<Vec<u32>> {
    let mut pids = vec![pid];
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let children = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(pids)
}
