//! Idle connections of one worker to one backend or node.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::connection::UpstreamConnection;
use super::peer::PeerNode;

/// Idle connections of one worker to one backend.
const MAX_CONNECTIONS: usize = 256;
/// After this time the server may close an idle connection.
const MAX_IDLE: Duration = Duration::from_secs(4);

#[derive(Default)]
pub(super) struct ConnectionPool {
    /// sorted: the one that waited least is last
    idle: RefCell<Vec<(UpstreamConnection, Instant)>>,
    /// whether the task that closes expired connections runs
    has_evictor: Cell<bool>,
}

/// The idle connections of one worker to other nodes: one pool for each node.
#[derive(Default)]
pub struct PeerPools(RefCell<HashMap<String, (PeerNode, Rc<ConnectionPool>)>>);

impl PeerPools {
    /// The pool of this node. If its address or certificate has changed, the pool is new.
    pub(super) fn get_or_create(&self, peer: &PeerNode) -> Rc<ConnectionPool> {
        let mut pools = self.0.borrow_mut();
        match pools.get(peer.node()) {
            Some((known, pool)) if known.is_same(peer) => Rc::clone(pool),
            Some(_) | None => {
                let pool = Rc::default();
                pools.insert(peer.node().to_owned(), (peer.clone(), Rc::clone(&pool)));
                pool
            }
        }
    }
}

impl ConnectionPool {
    /// Takes a connection that the server has not closed.
    pub(super) fn take(&self) -> Option<UpstreamConnection> {
        let mut idle = self.idle.borrow_mut();
        while let Some((mut connection, since)) = idle.pop() {
            if since.elapsed() > MAX_IDLE {
                idle.clear(); // the other connections are older
                return None;
            }
            if connection.is_idle() {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn put(self: &Rc<Self>, connection: UpstreamConnection) {
        let mut idle = self.idle.borrow_mut();
        if connection.buffer.is_empty() && idle.len() < MAX_CONNECTIONS {
            idle.push((connection, Instant::now()));
            if !self.has_evictor.replace(true) {
                spawn_local(evict_idle(Rc::downgrade(self)));
            }
        }
    }

    /// Closes expired connections. Returns whether any are left.
    fn close_expired(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(_, since)| since.elapsed() < MAX_IDLE);
        self.has_evictor.set(!idle.is_empty());
        self.has_evictor.get()
    }
}

/// Closes expired connections while the pool holds any.
async fn evict_idle(pool: Weak<ConnectionPool>) {
    loop {
        sleep(MAX_IDLE).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_expired()) {
            return;
        }
    }
}
