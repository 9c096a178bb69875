//! The open consoles and tunnels: user, target and bytes. A guard keeps each one listed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nodegate_spice::Meter;

static OPEN: Mutex<OpenSession> = Mutex::new(OpenSession {
    next: 0,
    bridges: BTreeMap::new(),
    consoles: SessionTotals::NONE,
    tunnels: SessionTotals::NONE,
});

struct OpenSession {
    next: u64,
    bridges: BTreeMap<u64, Arc<SessionInfo>>,
    /// of those that are closed
    consoles: SessionTotals,
    tunnels: SessionTotals,
}

/// The number of some sessions, and the bytes they moved.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionTotals {
    pub count: u64,
    pub up: u64,
    pub down: u64,
}

impl SessionTotals {
    const NONE: Self = Self { count: 0, up: 0, down: 0 };

    fn add(&mut self, bridge: &SessionInfo) {
        let moved = bridge.meter.moved();
        self.count += 1;
        self.up += moved.up;
        self.down += moved.down;
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionKind {
    Console,
    Tunnel,
}

impl fmt::Display for SessionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Console => "console",
            Self::Tunnel => "tunnel",
        })
    }
}

/// A connection that is relayed both ways.
#[derive(Debug)]
pub struct SessionInfo {
    pub kind: SessionKind,
    pub client: IpAddr,
    pub user: Option<Arc<str>>,
    /// in the admin's words, without secrets
    pub target: String,
    pub since: Instant,
    pub meter: Meter,
}

impl SessionInfo {
    pub fn new(kind: SessionKind, client: IpAddr, user: Option<Arc<str>>, target: String) -> Self {
        Self { kind, client, user, target, since: Instant::now(), meter: Meter::default() }
    }

    /// Adds it to the list.
    pub fn open(self) -> SessionGuard {
        let bridge = Arc::new(self);
        let mut open = lock();
        let number = open.next;
        open.next += 1;
        open.bridges.insert(number, Arc::clone(&bridge));
        SessionGuard { number, bridge }
    }
}

/// Dropping it removes the session from the list.
#[derive(Debug)]
pub struct SessionGuard {
    number: u64,
    bridge: Arc<SessionInfo>,
}

impl Deref for SessionGuard {
    type Target = SessionInfo;

    fn deref(&self) -> &SessionInfo {
        &self.bridge
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let mut open = lock();
        open.bridges.remove(&self.number);
        match self.bridge.kind {
            SessionKind::Console => open.consoles.add(&self.bridge),
            SessionKind::Tunnel => open.tunnels.add(&self.bridge),
        }
    }
}

/// All open sessions, the oldest first.
pub fn all() -> Vec<Arc<SessionInfo>> {
    lock().bridges.values().map(Arc::clone).collect()
}

/// The sum of a kind since the start, and how many are open.
pub fn sum(kind: SessionKind) -> (SessionTotals, u64) {
    let open = lock();
    let mut sum = match kind {
        SessionKind::Console => open.consoles,
        SessionKind::Tunnel => open.tunnels,
    };
    let closed = sum.count;
    open.bridges.values().filter(|bridge| bridge.kind == kind).for_each(|bridge| sum.add(bridge));
    (sum, sum.count - closed)
}

fn lock() -> MutexGuard<'static, OpenSession> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
