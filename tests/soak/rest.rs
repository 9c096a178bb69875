//! The memory and descriptors of a process at rest.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::Nodegate;

/// Longer than what is kept for a while (idle threads, connections that linger), and than the pause between two looks at
/// the certificates, each of which takes a thread for some seconds.
const SETTLED: Duration = Duration::from_secs(18);
const LONGEST: Duration = Duration::from_mins(2);

#[derive(Debug, Eq, PartialEq)]
pub struct Rest {
    pub descriptors: usize,
    pub threads: usize,
    pub kilobytes: u64,
}

impl Rest {
    /// The fewest descriptors and threads, once they have not become fewer for a while.
    pub fn of(gate: &Nodegate) -> Self {
        let start = Instant::now();
        let (mut least, mut since) = (Self::now(gate), Instant::now());
        while since.elapsed() < SETTLED {
            assert!(start.elapsed() < LONGEST, "it comes to no rest: {least:?}");
            std::thread::sleep(Duration::from_millis(200));
            let now = Self::now(gate);
            if now.descriptors < least.descriptors || now.threads < least.threads {
                since = Instant::now();
            }
            least = Self {
                descriptors: now.descriptors.min(least.descriptors),
                threads: now.threads.min(least.threads),
                kilobytes: now.kilobytes,
            };
        }
        least
    }

    fn now(gate: &Nodegate) -> Self {
        let process = format!("/proc/{}", gate.pid());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        Self {
            descriptors: fs::read_dir(format!("{process}/fd")).unwrap().count(),
            threads: usize::try_from(number("Threads:")).unwrap(),
            kilobytes: number("VmRSS:"),
        }
    }
}
