//! The open consoles and tunnels: user, target and bytes. A guard keeps each one listed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use enum_map::{Enum, EnumMap};
use nodegate_spice::ByteCounter;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

/// The sessions of a process.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<SessionTable>);

#[derive(Debug, Default)]
struct SessionTable {
    next: u64,
    open: BTreeMap<u64, Arc<SessionInfo>>,
    closed: EnumMap<SessionKind, SessionTotals>,
}

/// The number of some sessions, and the bytes they moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SessionTotals {
    pub(super) count: u64,
    pub(super) up: u64,
    pub(super) down: u64,
}

impl SessionTotals {
    fn add(&mut self, session: &SessionInfo) {
        let moved = session.counter.moved();
        self.count += 1;
        self.up += moved.up;
        self.down += moved.down;
    }
}

#[derive(Clone, Copy, Debug, Enum, Eq, PartialEq)]
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
    pub counter: ByteCounter,
}

impl SessionInfo {
    pub fn new(kind: SessionKind, client: IpAddr, user: Option<Arc<str>>, target: String) -> Self {
        Self { kind, client, user, target, since: Instant::now(), counter: ByteCounter::default() }
    }
}

/// Dropping it removes the session from the list.
#[derive(Debug)]
pub struct SessionGuard {
    sessions: Arc<Sessions>,
    number: u64,
    session: Arc<SessionInfo>,
}

impl Deref for SessionGuard {
    type Target = SessionInfo;

    fn deref(&self) -> &SessionInfo {
        &self.session
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let mut table = self.sessions.lock();
        table.open.remove(&self.number);
        table.closed[self.session.kind].add(&self.session);
    }
}

impl Sessions {
    /// Adds a session to the list.
    pub fn open(self: &Arc<Self>, session: SessionInfo) -> SessionGuard {
        let session = Arc::new(session);
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        table.open.insert(number, Arc::clone(&session));
        SessionGuard { sessions: Arc::clone(self), number, session }
    }

    /// All open sessions, the oldest first.
    pub fn all(&self) -> Vec<Arc<SessionInfo>> {
        self.lock().open.values().map(Arc::clone).collect()
    }

    /// How many sessions of a kind are open.
    pub fn count(&self, kind: SessionKind) -> usize {
        self.lock().open.values().filter(|session| session.kind == kind).count()
    }

    /// All sessions since the start.
    pub(super) fn totals(&self) -> EnumMap<SessionKind, SessionTotals> {
        let table = self.lock();
        let mut totals = table.closed;
        for session in table.open.values() {
            totals[session.kind].add(session);
        }
        totals
    }

    fn lock(&self) -> MutexGuard<'_, SessionTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind as a label.
impl EncodeLabelSet for SessionKind {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("kind", self.to_string())].encode(encoder)
    }
}
