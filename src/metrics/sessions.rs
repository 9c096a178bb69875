//! The consoles and tunnels that are open: who, where to, how much. One is listed for as long as its owner keeps it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nodegate_spice::Meter;

static OPEN: Mutex<Open> =
    Mutex::new(Open { next: 0, bridges: BTreeMap::new(), consoles: Sum::NONE, tunnels: Sum::NONE });

struct Open {
    next: u64,
    bridges: BTreeMap<u64, Arc<Bridge>>,
    /// of those that are closed
    consoles: Sum,
    tunnels: Sum,
}

/// Some bridges, and what has moved over them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    pub count: u64,
    pub up: u64,
    pub down: u64,
}

impl Sum {
    const NONE: Self = Self { count: 0, up: 0, down: 0 };

    fn add(&mut self, bridge: &Bridge) {
        let moved = bridge.meter.moved();
        self.count += 1;
        self.up += moved.up;
        self.down += moved.down;
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Console,
    Tunnel,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Console => "console",
            Self::Tunnel => "tunnel",
        })
    }
}

/// A connection that has become a way through.
#[derive(Debug)]
pub struct Bridge {
    pub kind: Kind,
    pub client: IpAddr,
    pub user: Option<Arc<str>>,
    /// as an admin knows it, without anything secret
    pub target: String,
    pub since: Instant,
    pub meter: Meter,
}

impl Bridge {
    pub fn new(kind: Kind, client: IpAddr, user: Option<Arc<str>>, target: String) -> Self {
        Self { kind, client, user, target, since: Instant::now(), meter: Meter::default() }
    }

    /// Puts it on the list.
    pub fn open(self) -> Listed {
        let bridge = Arc::new(self);
        let mut open = lock();
        let number = open.next;
        open.next += 1;
        open.bridges.insert(number, Arc::clone(&bridge));
        Listed { number, bridge }
    }
}

/// Takes it off the list when dropped.
#[derive(Debug)]
pub struct Listed {
    number: u64,
    bridge: Arc<Bridge>,
}

impl Deref for Listed {
    type Target = Bridge;

    fn deref(&self) -> &Bridge {
        &self.bridge
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut open = lock();
        open.bridges.remove(&self.number);
        match self.bridge.kind {
            Kind::Console => open.consoles.add(&self.bridge),
            Kind::Tunnel => open.tunnels.add(&self.bridge),
        }
    }
}

/// All of them, the oldest first.
pub fn all() -> Vec<Arc<Bridge>> {
    lock().bridges.values().map(Arc::clone).collect()
}

/// Those of a kind since the start, and how many of them are open.
pub fn sum(kind: Kind) -> (Sum, u64) {
    let open = lock();
    let mut sum = match kind {
        Kind::Console => open.consoles,
        Kind::Tunnel => open.tunnels,
    };
    let closed = sum.count;
    open.bridges.values().filter(|bridge| bridge.kind == kind).for_each(|bridge| sum.add(bridge));
    (sum, sum.count - closed)
}

fn lock() -> MutexGuard<'static, Open> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
