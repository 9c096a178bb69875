//! The queue of a daemon for people: its workers, and what keeps them busy.

use crate::metrics::queues::QueueReport;

/// Running slow calls that are shown; `--json` has all.
const SHOWN_CALLS: usize = 10;
/// Seconds of calls that cost next to nothing, which are not shown.
const SHOWN_COST: f64 = 0.1;

/// The lines below a daemon's own one.
pub(super) fn lines(queue: &QueueReport) -> Vec<String> {
    let mut lines = vec![workers(queue)];
    let slow = queue.slow.iter().take(SHOWN_CALLS);
    lines.extend(slow.map(|call| format!("slow: {}, for {}", call.template, seconds(call.age_ms))));
    if queue.slow.len() > SHOWN_CALLS {
        lines.push(format!("slow: {} more calls", queue.slow.len() - SHOWN_CALLS));
    }
    lines.extend(queue.costliest.iter().filter(|cost| cost.seconds >= SHOWN_COST).map(|cost| {
        let calls = if cost.calls == 1 { "call" } else { "calls" };
        format!("costly: {}, {:.1} s in {} {calls}", cost.template, cost.seconds, cost.calls)
    }));
    lines
}

fn workers(queue: &QueueReport) -> String {
    let QueueReport { workers, busy, waiting, oldest_wait_ms, rejected, .. } = queue;
    if *workers == 0 {
        return "no limit of requests at once (backend.workers = 0)".to_owned();
    }
    let waiting = match oldest_wait_ms {
        Some(oldest) => format!("{waiting} requests wait, the oldest for {}", seconds(*oldest)),
        None => "no request waits".to_owned(),
    };
    format!("{busy} of {workers} workers busy; {waiting}; {rejected} rejected")
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::queues::{RunningCall, TemplateCost};

    #[test]
    fn a_queue_shows_what_keeps_its_workers_busy() {
        let template = "GET /nodes/{node}/status".to_owned();
        let queue = QueueReport {
            workers: 3,
            busy: 2,
            waiting: 4,
            oldest_wait_ms: Some(1250),
            rejected: 5,
            slow: vec![RunningCall { template: template.clone(), age_ms: 8000 }; SHOWN_CALLS + 2],
            costliest: vec![
                TemplateCost { template, calls: 1, seconds: 12.34 },
                TemplateCost { template: "GET /version".to_owned(), calls: 3, seconds: 0.02 },
            ],
        };
        let lines = lines(&queue);
        let slow = "slow: GET /nodes/{node}/status, for 8.0 s";
        let mut expected = vec!["2 of 3 workers busy; 4 requests wait, the oldest for 1.2 s; 5 rejected"];
        expected.extend([slow; SHOWN_CALLS]);
        expected.extend(["slow: 2 more calls", "costly: GET /nodes/{node}/status, 12.3 s in 1 call"]);
        assert_eq!(lines, expected);
        let idle = QueueReport { workers: 1, ..QueueReport::default() };
        assert_eq!(super::lines(&idle), ["0 of 1 workers busy; no request waits; 0 rejected"]);
        assert_eq!(super::lines(&QueueReport::default()).len(), 1);
    }
}
