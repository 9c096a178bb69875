//! Calls to a local backend wait here while all of its workers are busy, so that nodegate chooses which is next.

pub mod call;
pub mod choice;
mod client_queue;
pub mod cost;
mod lane;
mod lanes;
mod order;
mod running;
mod runtime;
mod shared_slots;
mod starts;
pub mod status;
mod worker_slot;

pub use crate::upstream::scheduler::call::{CallTemplate, ClientGroup, ScheduledCall, SchedulerLimits};
pub use crate::upstream::scheduler::runtime::BackendScheduler;
pub use crate::upstream::scheduler::shared_slots::{ProcessRole, SlotFile};
pub use crate::upstream::scheduler::status::{QueueError, SchedulerStatus};
pub use crate::upstream::scheduler::worker_slot::WorkerSlot;

#[cfg(test)]
mod tests;
