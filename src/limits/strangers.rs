//! Connections whose clients have shown no good credential, and the memory that they take together. If it is more than
//! strangers may have, the oldest connection of the address that holds most is closed, at the listener that holds most.
//! So a newcomer always finds room.

use std::collections::{BTreeSet, HashMap};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::failures::Source;

/// Behind an address that is not counted there may be many clients.
const CLIENTS_BEHIND_UNCOUNTED: usize = 64;

/// What a connection is at, which says how much memory it takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// no whole `ClientHello` has come
    Opening,
    Handshake,
    /// a head is awaited, or a part of it has come
    Head,
    Busy,
    /// the client takes nothing of its answer
    Writing,
    /// a body that nobody wants is taken in
    Draining,
    /// HTTP/2, with a request
    Multiplexed,
    /// between two requests
    Idle,
}

/// [`Stranger::phase`] of one that is no stranger any more.
const KNOWN: u8 = u8::MAX;

impl Phase {
    const fn code(self) -> u8 {
        match self {
            Self::Opening => 0,
            Self::Handshake => 1,
            Self::Head => 2,
            Self::Busy => 3,
            Self::Writing => 4,
            Self::Multiplexed => 5,
            Self::Idle => 6,
            Self::Draining => 7,
        }
    }

    /// Measured on a release build, rounded up.
    const fn bytes(self) -> usize {
        match self {
            Self::Opening | Self::Idle => 16 << 10,
            Self::Handshake => 64 << 10,
            Self::Head | Self::Busy => 96 << 10,
            Self::Writing | Self::Draining => 192 << 10,
            Self::Multiplexed => 256 << 10,
        }
    }
}

/// All of them.
#[derive(Default)]
pub struct Strangers {
    held: Mutex<Held>,
}

type Key = (Arc<str>, Option<Source>);

#[derive(Default)]
struct Held {
    bytes: usize,
    next: u64,
    connections: HashMap<u64, Connection>,
    holders: HashMap<Key, Holder>,
    listeners: HashMap<Arc<str>, Listener>,
}

struct Connection {
    key: Key,
    bytes: usize,
    end: Arc<End>,
}

/// An address at a listener.
#[derive(Default)]
struct Holder {
    bytes: usize,
    number: u64,
    /// the oldest first
    connections: BTreeSet<u64>,
}

#[derive(Default)]
struct Listener {
    bytes: usize,
    /// bytes of holders and their numbers
    ranking: BTreeSet<(usize, u64)>,
    sources: HashMap<u64, Option<Source>>,
}

/// Tells a connection that it has to end.
#[derive(Default)]
struct End {
    has_come: AtomicBool,
    waker: AtomicWaker,
}

/// One connection, for as long as it lives.
pub struct Stranger {
    strangers: Arc<Strangers>,
    /// bytes that all strangers may have
    budget: usize,
    number: u64,
    phase: AtomicU8,
    end: Arc<End>,
}

impl Strangers {
    /// A connection that has been accepted.
    pub fn enter(self: &Arc<Self>, budget: usize, listener: &Arc<str>, source: Option<Source>) -> Stranger {
        let end = Arc::<End>::default();
        let mut held = self.held();
        held.next += 1;
        let number = held.next;
        let key = (Arc::clone(listener), source);
        held.connections.insert(number, Connection { key, bytes: 0, end: Arc::clone(&end) });
        held.resize(number, Phase::Opening.bytes());
        held.turn_out(budget);
        drop(held);
        let (strangers, phase) = (Arc::clone(self), AtomicU8::new(Phase::Opening.code()));
        Stranger { strangers, budget, number, phase, end }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// What the connection is at now.
    pub fn enter(&self, phase: Phase) {
        let before = self.phase.load(Ordering::Relaxed);
        if before == phase.code() || before == KNOWN {
            return;
        }
        self.phase.store(phase.code(), Ordering::Relaxed);
        let mut held = self.strangers.held();
        held.resize(self.number, phase.bytes());
        held.turn_out(self.budget);
    }

    /// Its client has shown a good credential.
    pub fn is_known(&self) {
        if self.phase.swap(KNOWN, Ordering::Relaxed) != KNOWN {
            self.strangers.held().remove(self.number);
        }
    }

    /// Whether the connection has to end.
    pub fn is_turned_out(&self) -> bool {
        self.end.has_come.load(Ordering::Relaxed)
    }

    /// Ready once the connection has to end. One task waits for that.
    pub fn poll_turned_out(&self, context: &Context<'_>) -> Poll<()> {
        if self.phase.load(Ordering::Relaxed) == KNOWN {
            return Poll::Pending;
        }
        self.end.waker.register(context.waker());
        if self.is_turned_out() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// What a future gives, unless the connection has to end before.
    pub async fn unless_turned_out<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = poll_fn(|context| self.poll_turned_out(context)) => None,
            given = future => Some(given),
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.is_known();
    }
}

impl Held {
    fn resize(&mut self, number: u64, bytes: usize) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let before = std::mem::replace(&mut connection.bytes, bytes);
        let key = connection.key.clone();
        self.change(&key, number, before, bytes);
    }

    fn remove(&mut self, number: u64) -> Option<Arc<End>> {
        let connection = self.connections.remove(&number)?;
        self.change(&connection.key, number, connection.bytes, 0);
        Some(connection.end)
    }

    fn change(&mut self, key: &Key, number: u64, before: usize, after: usize) {
        self.bytes = self.bytes - before + after;
        let listener = self.listeners.entry(Arc::clone(&key.0)).or_default();
        listener.bytes = listener.bytes - before + after;
        let holder = self.holders.entry(key.clone()).or_default();
        if holder.connections.is_empty() {
            holder.number = number;
            listener.sources.insert(number, key.1);
        }
        listener.ranking.remove(&(rank(holder.bytes, key.1), holder.number));
        holder.bytes = holder.bytes - before + after;
        if after > 0 {
            holder.connections.insert(number);
        } else {
            holder.connections.remove(&number);
        }
        if holder.connections.is_empty() {
            listener.sources.remove(&holder.number);
            self.holders.remove(key);
        } else {
            listener.ranking.insert((rank(holder.bytes, key.1), holder.number));
        }
        if listener.bytes == 0 {
            self.listeners.remove(&key.0);
        }
    }

    /// Ends connections until strangers hold no more than they may.
    fn turn_out(&mut self, budget: usize) {
        while self.bytes > budget
            && let Some(end) = self.oldest_of_largest().and_then(|number| self.remove(number))
        {
            end.has_come.store(true, Ordering::Relaxed);
            end.waker.wake();
        }
    }

    fn oldest_of_largest(&self) -> Option<u64> {
        let (name, listener) = self.listeners.iter().max_by_key(|(_, listener)| listener.bytes)?;
        let (_, number) = listener.ranking.last()?;
        let source = listener.sources.get(number)?;
        self.holders.get(&(Arc::clone(name), *source))?.connections.first().copied()
    }
}

fn rank(bytes: usize, source: Option<Source>) -> usize {
    if source.is_some() { bytes } else { bytes / CLIENTS_BEHIND_UNCOUNTED }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BUDGET: usize = 16 * Phase::Opening.bytes();

    fn source(last: u8) -> Source {
        Source::of(std::net::IpAddr::from([192, 0, 2, last]))
    }

    fn survivors(connections: &[Stranger]) -> Vec<usize> {
        let numbered = connections.iter().enumerate().filter(|(_, it)| !it.is_turned_out());
        numbered.map(|(number, _)| number).collect()
    }

    #[test]
    fn the_oldest_of_the_largest_address_goes_first() {
        let (strangers, listener) = (Arc::new(Strangers::default()), Arc::from("listen"));
        let enter = |last| strangers.enter(BUDGET, &listener, Some(source(last)));
        let few = [enter(1), enter(1), enter(2)];
        let many: Vec<_> = (0..20).map(|_| enter(3)).collect();
        assert_eq!(survivors(&few), [0, 1, 2]);
        assert_eq!(survivors(&many), (7..20).collect::<Vec<_>>());
        let newcomer = enter(4);
        newcomer.enter(Phase::Head);
        assert!(!newcomer.is_turned_out());
        assert_eq!(survivors(&many), (13..20).collect::<Vec<_>>());
        drop((few, many, newcomer));
        let held = strangers.held();
        assert_eq!(
            (held.bytes, held.connections.len(), held.holders.len(), held.listeners.len()),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn the_largest_listener_gives_way_first() {
        let strangers = Arc::new(Strangers::default());
        let [own, public] = ["listen", "public"].map(Arc::from);
        let few: Vec<_> = (0..6).map(|_| strangers.enter(BUDGET, &own, Some(source(1)))).collect();
        let many: Vec<_> =
            (0..250).map(|last| strangers.enter(BUDGET, &public, Some(source(last)))).collect();
        assert_eq!(survivors(&few).len(), 6);
        assert_eq!(survivors(&many).len(), 10);
    }

    #[test]
    fn an_uncounted_address_counts_as_many_clients() {
        let (strangers, listener) = (Arc::new(Strangers::default()), Arc::from("listen"));
        let proxied: Vec<_> = (0..12).map(|_| strangers.enter(BUDGET, &listener, None)).collect();
        let others: Vec<_> = (0..8).map(|_| strangers.enter(BUDGET, &listener, Some(source(1)))).collect();
        assert_eq!((survivors(&proxied).len(), survivors(&others).len()), (12, 4));
    }

    #[test]
    fn a_user_is_never_turned_out() {
        let (strangers, listener) = (Arc::new(Strangers::default()), Arc::from("listen"));
        let user = strangers.enter(BUDGET, &listener, Some(source(1)));
        user.is_known();
        user.enter(Phase::Multiplexed);
        let _others: Vec<_> = (0..40).map(|_| strangers.enter(BUDGET, &listener, Some(source(1)))).collect();
        assert!(!user.is_turned_out());
        assert_eq!(strangers.held().bytes, BUDGET);
    }
}
