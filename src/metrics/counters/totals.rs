//! The sums over the counters of all threads.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::labels::{FailurePhase, HandshakeResult, LimitLabel, RequestDestination};
use super::{BEGAN, TABLE};
use crate::metrics::histogram::HistogramTotals;
use crate::metrics::latency_window::LatencyHistogram;

/// The counts of all threads since the start.
#[derive(Clone, Debug, Default)]
pub struct CounterTotals {
    pub open: u64,
    pub connections: u64,
    pub denied: u64,
    pub refused: u64,
    /// 1xx to 5xx
    pub classes: [u64; 5],
    /// of the last minute
    pub latencies: LatencyHistogram,
    /// by `RequestDestination::ALL`, each 1xx to 5xx
    pub answers: [[u64; 5]; RequestDestination::COUNT],
    pub times: [HistogramTotals; RequestDestination::COUNT],
    pub bytes: u64,
    pub handshakes: [u64; HandshakeResult::COUNT],
    pub limits: [u64; LimitLabel::COUNT],
    pub upstream_errors: [u64; FailurePhase::COUNT],
    pub upstream_times: HistogramTotals,
    /// requests that shared the response to another
    pub coalesced: u64,
    /// running now
    pub uploads: u64,
    /// bytes that they hold
    pub spool: u64,
}

pub fn totals() -> CounterTotals {
    let mut totals = CounterTotals::default();
    let now = BEGAN.elapsed();
    let (mut closed, mut ended, mut given_back) = (0, 0, 0);
    for row in &TABLE {
        closed += read(&row.closed);
        totals.connections += read(&row.opened);
        totals.denied += read(&row.denied);
        totals.refused += read(&row.refused);
        totals.bytes += read(&row.bytes);
        totals.coalesced += read(&row.coalesced);
        for (total, counts) in totals.answers.iter_mut().zip(&row.answers) {
            sum_up(total, counts);
        }
        for (total, times) in totals.times.iter_mut().zip(&row.times) {
            times.read_into(total);
        }
        sum_up(&mut totals.handshakes, &row.handshakes);
        sum_up(&mut totals.limits, &row.limits);
        sum_up(&mut totals.upstream_errors, &row.upstream_errors);
        row.upstream_times.read_into(&mut totals.upstream_times);
        ended += read(&row.uploads.given_back);
        given_back += read(&row.spool.given_back);
        totals.uploads += read(&row.uploads.taken);
        totals.spool += read(&row.spool.taken);
        row.latencies.read_into(&mut totals.latencies, now);
    }
    for answers in &totals.answers {
        totals.classes.iter_mut().zip(answers).for_each(|(total, count)| *total += count);
    }
    // A connection that closed during the read may be counted as closed but not as opened.
    totals.open = totals.connections.saturating_sub(closed);
    totals.uploads = totals.uploads.saturating_sub(ended);
    totals.spool = totals.spool.saturating_sub(given_back);
    totals
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn sum_up<const N: usize>(totals: &mut [u64; N], counts: &[AtomicU64; N]) {
    totals.iter_mut().zip(counts).for_each(|(total, count)| *total += read(count));
}
