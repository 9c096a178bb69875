//! Connections that wait for another request: of one worker, to one backend or node.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::connection::UpstreamConnection;
use super::peer::PeerNode;

/// Kept connections of one worker to one backend.
const SIZE: usize = 256;
/// A kept connection may be closed by the other side at any time after this.
const AGE: Duration = Duration::from_secs(4);

#[derive(Default)]
pub(super) struct ConnectionPool {
    /// the one that waited least comes last
    idle: RefCell<Vec<(UpstreamConnection, Instant)>>,
    /// whether somebody closes what nobody asks for
    tended: Cell<bool>,
}

/// The kept connections of one worker to other nodes: as many pools as the cluster has nodes.
#[derive(Default)]
pub struct PeerPools(RefCell<HashMap<String, (PeerNode, Rc<ConnectionPool>)>>);

impl PeerPools {
    /// What is kept to this node. With another address or certificate, nothing is.
    pub(super) fn of(&self, peer: &PeerNode) -> Rc<ConnectionPool> {
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
    /// A connection that looks alive.
    pub(super) fn take(&self) -> Option<UpstreamConnection> {
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

    pub(super) fn put(self: &Rc<Self>, connection: UpstreamConnection) {
        let mut idle = self.idle.borrow_mut();
        if connection.buffer.is_empty() && idle.len() < SIZE {
            idle.push((connection, Instant::now()));
            if !self.tended.replace(true) {
                spawn_local(tend(Rc::downgrade(self)));
            }
        }
    }

    /// Closes what has waited too long. Whether anything is left.
    fn close_old(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(_, since)| since.elapsed() < AGE);
        self.tended.set(!idle.is_empty());
        self.tended.get()
    }
}

/// Runs as long as the pool lives and holds anything.
async fn tend(pool: Weak<ConnectionPool>) {
    loop {
        sleep(AGE).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_old()) {
            return;
        }
    }
}
