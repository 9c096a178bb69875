//! Whether the settings allow more memory than the control group of the process has.

use std::fs;
use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::root::RootDirectory;
use crate::config::settings::ProtocolVersions;
use crate::limits::concurrency::ConnectionCapacity;
use crate::limits::memory_estimate;
use crate::os::daemon_process::DaemonProcess;
use crate::os::rlimit;

const MIB: u64 = 1 << 20;
/// Version 1 of control groups reports a missing limit as a number near this.
const NO_LIMIT: u64 = 1 << 60;

/// Warnings if the limit of the serving process, or of this one, is too low.
pub(crate) fn problems(config: &Config) -> Vec<Diagnostic> {
    let running = DaemonProcess::find(config).map(|running| running.pid.to_string());
    let Some(limit) = limit(&config.root, running.as_deref().unwrap_or("self")) else { return Vec::new() };
    let limits = &config.settings.limits;
    let capacity = ConnectionCapacity::new(limits.connections, rlimit::limit());
    let speaks_http2 = config.settings.tls.offers == ProtocolVersions::Http2AsWell;
    let allowed =
        memory_estimate::allowed_bytes(capacity, speaks_http2, limits.body_budget(), limits.uploads);
    [of_settings(config, allowed, limit), of_spool(config, allowed, limit)].into_iter().flatten().collect()
}

fn of_settings(config: &Config, allowed: u64, limit: u64) -> Option<Diagnostic> {
    (allowed > limit).then(|| {
        let message = format!(
            "the settings allow {} MiB of memory, and the service has {} MiB (MemoryMax=): raise it, or lower \
             limits.connections or limits.buffered",
            allowed / MIB,
            limit / MIB
        );
        Diagnostic::warning(config.origin("limits.connections"), "limits.connections", message)
    })
}

/// Files on a tmpfs count as memory of the process that writes them.
fn of_spool(config: &Config, allowed: u64, limit: u64) -> Option<Diagnostic> {
    let spool = config.root.path(&config.product.upload.as_ref()?.spool);
    let directory = spool.parent()?;
    if statfs(directory).ok()?.filesystem_type() != TMPFS_MAGIC {
        return None;
    }
    let most = config.settings.limits.upload_bytes_total;
    if most > 0 && allowed.saturating_add(most) <= limit {
        return None;
    }
    let message = format!(
        "uploads are stored in {}, a tmpfs: they count towards the {} MiB of memory of the service \
         (MemoryMax=), and a large one kills it; mount a disk there, or set limits.upload_bytes_total",
        directory.display(),
        limit / MIB
    );
    Some(Diagnostic::warning(
        config.origin("limits.upload_bytes_total"),
        "limits.upload_bytes_total",
        message,
    ))
}

/// The lowest limit of the control group of a process and of its parents (cgroups(7)), in bytes.
fn limit(root: &RootDirectory, process: &str) -> Option<u64> {
    let groups = fs::read_to_string(root.path(format!("/proc/{process}/cgroup"))).ok()?;
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (place, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let around = Path::new(path).ancestors();
        let read = |group: &Path| {
            let group = root.path(place).join(group.strip_prefix("/").unwrap_or(group));
            fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok()
        };
        around.filter_map(read).filter(|limit| *limit < NO_LIMIT).min()
    });
    limits.min()
}
