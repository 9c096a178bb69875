//! Work in threads with a deadline. A thread that hangs, such as in a call on a cluster's file system, is left behind:
//! it ends with the process.

use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::os::program::{self, ProgramLimits};

const MAX_OUTPUT_BYTES: u64 = 1 << 20;
/// Threads at once.
const AT_ONCE: usize = 64;

/// The results in the order of `items`; `None` for work that does not end in time or panics.
pub(super) fn run_all<I, T>(
    items: Vec<I>,
    limit: Duration,
    work: impl Fn(&I) -> T + Send + Sync + 'static,
) -> Vec<(I, Option<T>)>
where
    I: Clone + Send + Sync + 'static,
    T: Send + 'static,
{
    let until = Instant::now() + limit;
    let (work, waiting) = (Arc::new(work), Arc::new(items.clone()));
    let (sender, receiver) = channel();
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for _ in 0..AT_ONCE.min(items.len()) {
        let (work, waiting, sender, next) =
            (Arc::clone(&work), Arc::clone(&waiting), sender.clone(), Arc::clone(&next));
        thread::spawn(move || {
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(item) = waiting.get(number) else { return };
                if sender.send((number, work(item))).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut results: Vec<_> = items.into_iter().map(|item| (item, None)).collect();
    loop {
        match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((number, result)) => {
                if let Some((_, slot)) = results.get_mut(number) {
                    *slot = Some(result);
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return results,
        }
    }
}

/// Why a program gave no output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ProgramError {
    Missing,
    TooSlow,
    /// its first line on stderr
    Failed(String),
}

/// The output of a program of the system, at most a megabyte. It gets no input, and ends at the deadline.
pub(super) fn output(command: &mut Command, limit: Duration) -> Result<String, ProgramError> {
    let limits = ProgramLimits { time: limit, output_bytes: MAX_OUTPUT_BYTES, memory_bytes: None };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match program::run(command.env("LC_ALL", "C"), String::new(), limits) {
        Ok(output) if output.status.success() => Ok(text(&output.stdout)),
        Ok(output) => {
            let complaint = text(&output.stderr);
            let first = complaint.lines().map(str::trim).find(|line| !line.is_empty());
            Err(ProgramError::Failed(first.map_or_else(|| output.status.to_string(), str::to_owned)))
        }
        Err(program::ProgramError::NotStarted(_)) => Err(ProgramError::Missing),
        Err(program::ProgramError::TooSlow) => Err(ProgramError::TooSlow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_work_leaves_a_gap_in_time() {
        let started = Instant::now();
        let results = run_all(vec![0_u64, 30_000, 1], Duration::from_millis(500), |time| {
            thread::sleep(Duration::from_millis(*time));
            time + 1
        });
        assert_eq!(results, [(0, Some(1)), (30_000, None), (1, Some(2))]);
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn more_items_than_threads_are_all_done() {
        let results = run_all((0..100).collect(), Duration::from_secs(20), |number: &u32| number * 2);
        assert!(results.iter().all(|(number, result)| *result == Some(number * 2)));
        assert!(run_all(Vec::new(), Duration::from_secs(20), |number: &u32| *number).is_empty());
    }

    #[test]
    fn programs_end_at_the_deadline() {
        let run = |script: &str, limit| output(Command::new("sh").args(["-c", script]), limit);
        assert_eq!(run("echo a", Duration::from_secs(20)), Ok("a\n".to_owned()));
        let failed = run("echo b >&2; exit 3", Duration::from_secs(20));
        assert_eq!(failed, Err(ProgramError::Failed("b".to_owned())));
        assert_eq!(run("exec sleep 60", Duration::from_millis(200)), Err(ProgramError::TooSlow));
        let missing = output(&mut Command::new("/nonexistent/program"), Duration::from_secs(1));
        assert_eq!(missing, Err(ProgramError::Missing));
    }
}
