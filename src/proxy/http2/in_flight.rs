//! The running requests of a connection.

use std::cell::Cell;
use std::rc::Rc;

use crate::time::client_timeouts::TimeoutTracker;

/// Reports to the connection's timeouts whether a request is running.
pub(super) struct InFlight {
    timeouts: Rc<TimeoutTracker>,
    running: Cell<usize>,
}

impl InFlight {
    pub(super) fn new(timeouts: &Rc<TimeoutTracker>) -> Self {
        Self { timeouts: Rc::clone(timeouts), running: Cell::new(0) }
    }

    pub(super) fn begin(self: &Rc<Self>) -> RunningRequest {
        if self.running.replace(self.running.get() + 1) == 0 {
            self.timeouts.begin_request();
        }
        RunningRequest(Rc::clone(self))
    }
}

/// Guard of one running request.
pub(super) struct RunningRequest(Rc<InFlight>);

impl Drop for RunningRequest {
    fn drop(&mut self) {
        let running = self.0.running.get().saturating_sub(1);
        self.0.running.set(running);
        if running == 0 {
            self.0.timeouts.end_response();
        }
    }
}
