//! The cost of a call that need not wait for a worker: its turn, its permit and what is learned of it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nodegate::testing::upstream::{
    BackendScheduler, CallTemplate, ClientGroup, ScheduledCall, SchedulerLimits,
};

use super::{Against, Goal, Row, figure};
use crate::Plan;
use crate::lab::Lab;
use crate::measure::{Contender, Sample, interleave};

const CALLS: u32 = 1_000_000;
/// Clients and guests that take turns, as those of a busy node do.
const CLIENTS: u32 = 50;
const GUESTS: u32 = 400;
const LIMITS: SchedulerLimits = SchedulerLimits {
    workers: 3,
    queue: 1024,
    queue_per_client: 256,
    slow_call: Duration::from_millis(500),
    queue_timeout: Duration::from_secs(30),
};

pub(crate) fn measure(_: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let contenders = vec![Contender::new("nodegate", run)];
    Ok(vec![Row {
        id: "permit",
        job: "a worker's permit for a call that need not wait".to_owned(),
        figures: vec![figure("cpu", "ns CPU a call", 0)],
        series: interleave(plan.many(), contenders)?,
        goals: vec![Goal::at_most(1000.0, "cpu", Against::Nothing)],
    }])
}

fn run() -> Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let scheduler = BackendScheduler::new("127.0.0.1:85", LIMITS);
    let template = CallTemplate::new("GET /nodes/{node}/qemu/{vmid}/status/current".into());
    let groups: Vec<_> = (0..CLIENTS).map(ClientGroup::new).collect();
    let before = used()?;
    runtime.block_on(async {
        for (number, group) in (0..CALLS).zip(groups.iter().cycle()) {
            let guest = number % GUESTS;
            let call = ScheduledCall::new(*group, template.clone(), ("node", guest), 0, false);
            scheduler.acquire(call).await?.answered();
        }
        anyhow::Ok(())
    })?;
    let used = used()?.checked_sub(before).context("the clock went back")?;
    Ok(Sample::from([("cpu", used.as_secs_f64() * 1e9 / f64::from(CALLS))]))
}

/// The CPU time of this thread.
fn used() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}
