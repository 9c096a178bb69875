//! The waiting calls of one client, and its place among the clients.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::call::{ClientGroup, ScheduledCall};

/// A call that waits.
#[derive(Debug)]
pub(super) struct WaitingCall {
    pub(super) number: u64,
    pub(super) arrived: Instant,
    pub(super) call: ScheduledCall,
}

/// The calls of one client that wait in a lane. It is never empty.
pub(super) struct ClientQueue {
    pub(super) calls: VecDeque<WaitingCall>,
    /// since when the first call is the first one
    pub(super) head_since: Instant,
    /// the client's virtual start, as in `Lane::clients`
    pub(super) start: Duration,
}

/// The place of a client in its turn: the lowest is first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    pub(super) start: Duration,
    pub(super) head_since: Instant,
    pub(super) number: u64,
    pub(super) group: ClientGroup,
}

impl ClientQueue {
    pub(super) fn place(&self, group: ClientGroup) -> Option<Place> {
        let number = self.calls.front()?.number;
        Some(Place { start: self.start, head_since: self.head_since, number, group })
    }
}
