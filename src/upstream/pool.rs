//! Connections that wait for another request: of one worker, to one backend.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::connection::Connection;

/// Kept connections of one worker to one backend.
const SIZE: usize = 256;
/// A kept connection may be closed by the other side at any time after this.
const AGE: Duration = Duration::from_secs(4);

#[derive(Default)]
pub(super) struct Pool {
    /// the one that waited least comes last
    idle: RefCell<Vec<(Connection, Instant)>>,
}

impl Pool {
    /// A connection that looks alive.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some((mut connection, since)) = idle.pop() {
            if since.elapsed() > AGE {
                idle.clear(); // the others are older still
                return None;
            }
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn put(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if connection.buffer.is_empty() && idle.len() < SIZE {
            idle.push((connection, Instant::now()));
        }
    }
}
