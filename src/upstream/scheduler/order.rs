//! The order of calls of one connection: neither overtakes the other if one of the two may change something.

use super::call::{ScheduledCall, Ticket};
use super::client_queue::WaitingCall;

/// Calls whose turn has come, but which have not been sent yet.
#[derive(Default)]
pub(super) struct StartingCalls(Vec<(Ticket, ScheduledCall)>);

impl StartingCalls {
    pub(super) fn add(&mut self, waiting: &WaitingCall) {
        self.0.push((waiting.ticket(), waiting.call.clone()));
    }

    /// The call has been sent, or will not be.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<ScheduledCall> {
        let position = self.0.iter().position(|(starting, _)| *starting == ticket)?;
        Some(self.0.swap_remove(position).1)
    }

    /// Whether none of them has to be sent before `call`.
    pub(super) fn let_pass(&self, call: &ScheduledCall) -> bool {
        !self.0.iter().any(|(_, earlier)| keep_order(earlier, call))
    }
}

/// Whether two calls have to stay in their order.
pub(super) fn keep_order(one: &ScheduledCall, other: &ScheduledCall) -> bool {
    one.connection == other.connection && one.group == other.group && (one.is_write || other.is_write)
}
