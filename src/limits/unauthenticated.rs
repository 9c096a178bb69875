//! The connections of unauthenticated clients, and their memory. If they exceed a limit, nodegate closes a connection
//! at the listener that holds most: the oldest one of the network with most connections there. So a new connection
//! finds room, even among many addresses with one connection each.

mod networks;

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use crate::limits::failure_table::ClientKey;
use crate::limits::handshake_budget::HandshakeBudget;
use networks::NetworkOrder;

/// The phase of a connection, which says how much memory it takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectionPhase {
    /// no whole `ClientHello` was read
    Opening,
    Handshake,
    /// nodegate waits for a head, or has a part of it
    Head,
    Busy,
    /// the client does not read its response
    Writing,
    /// nodegate drains a body that it does not use
    Draining,
    /// HTTP/2, with a request
    Multiplexed,
    /// HTTP/2, and the client does not read its responses
    MultiplexedWriting,
    /// between two requests
    Idle,
}

/// [`UnauthenticatedConnection::bytes`] of a client that has sent a valid credential.
const AUTHENTICATED: usize = 0;

impl ConnectionPhase {
    /// Above what the release build takes (docs/security.md): a debug build needs more for the same.
    const fn bytes(self) -> usize {
        match self {
            Self::Opening | Self::Idle => 16 << 10,
            Self::Handshake => 64 << 10,
            Self::Head | Self::Busy => 96 << 10,
            Self::Writing | Self::Draining => 192 << 10,
            Self::Multiplexed => 320 << 10,
            Self::MultiplexedWriting => 448 << 10,
        }
    }
}

/// The limits for all unauthenticated connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnauthenticatedLimits {
    pub bytes: usize,
    /// permits at all listeners
    pub permits: usize,
    /// permits at the connection's listener
    pub listener_connections: usize,
}

pub struct UnauthenticatedOrigin<'a> {
    pub listener: &'a Arc<str>,
    /// if the address is counted
    pub source: Option<ClientKey>,
    /// false for a client that only gets the reason of its rejection
    pub has_permit: bool,
}

/// All unauthenticated connections.
#[derive(Default)]
pub struct UnauthenticatedConnections {
    held: Mutex<HeldMemory>,
    handshakes: HandshakeBudget,
}

#[derive(Default)]
struct HeldMemory {
    bytes: usize,
    permits: usize,
    next: u64,
    connections: HashMap<u64, TrackedConnection>,
    listeners: HashMap<Arc<str>, ListenerUsage>,
}

struct TrackedConnection {
    listener: Arc<str>,
    has_permit: bool,
    bytes: usize,
    end: Arc<EvictionSignal>,
}

#[derive(Default)]
struct ListenerUsage {
    bytes: usize,
    permits: usize,
    networks: NetworkOrder,
}

/// Wakes a connection that has to end.
#[derive(Default)]
struct EvictionSignal {
    is_set: AtomicBool,
    waker: AtomicWaker,
}

/// One connection. Dropping it removes it from the count.
pub struct UnauthenticatedConnection {
    connections: Arc<UnauthenticatedConnections>,
    room: UnauthenticatedLimits,
    listener: Arc<str>,
    number: u64,
    /// of its phase
    bytes: AtomicUsize,
    end: Arc<EvictionSignal>,
    source: Option<ClientKey>,
}

impl UnauthenticatedConnections {
    /// Registers an accepted connection.
    pub fn register(
        self: &Arc<Self>,
        room: UnauthenticatedLimits,
        origin: &UnauthenticatedOrigin<'_>,
    ) -> UnauthenticatedConnection {
        let (end, listener) = (Arc::<EvictionSignal>::default(), Arc::clone(origin.listener));
        let mut held = self.held();
        let number = held.add(origin, Arc::clone(&end));
        held.evict(&room, &listener);
        drop(held);
        let (connections, bytes) = (Arc::clone(self), AtomicUsize::new(ConnectionPhase::Opening.bytes()));
        UnauthenticatedConnection { connections, room, listener, number, bytes, end, source: origin.source }
    }

    /// The sum of all connections.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.held().bytes
    }

    fn held(&self) -> MutexGuard<'_, HeldMemory> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnauthenticatedConnection {
    /// Sets the phase of the connection.
    pub fn set_phase(&self, phase: ConnectionPhase) {
        let before = self.bytes.load(Ordering::Relaxed);
        if before == phase.bytes() || before == AUTHENTICATED {
            return;
        }
        self.bytes.store(phase.bytes(), Ordering::Relaxed);
        let mut held = self.connections.held();
        held.resize(self.number, phase.bytes());
        held.evict(&self.room, &self.listener);
    }

    /// Counts that nodegate rejected the connection, or a request of it, because of a limit.
    pub fn count_rejection(&self) {
        if self.bytes.load(Ordering::Relaxed) != AUTHENTICATED
            && let Some(source) = self.source
        {
            self.connections.handshakes.count_rejection(source, Instant::now());
        }
    }

    /// The time until its TLS handshake may begin. `None` if that is more than `longest`.
    pub fn reserve_handshake(&self, longest: Duration) -> Option<Duration> {
        let Some(source) = self.source else { return Some(Duration::ZERO) };
        self.connections.handshakes.reserve(source, longest, Instant::now())
    }

    /// Removes the connection from the count: its client has sent a valid credential.
    pub fn set_authenticated(&self) {
        if self.bytes.swap(AUTHENTICATED, Ordering::Relaxed) != AUTHENTICATED {
            self.connections.held().remove(self.number);
        }
    }

    /// Whether the connection has to end.
    pub fn is_evicted(&self) -> bool {
        self.end.is_set.load(Ordering::Relaxed)
    }

    /// Ready once the connection has to end. Only one task may wait for that.
    pub fn poll_evicted(&self, context: &Context<'_>) -> Poll<()> {
        if self.bytes.load(Ordering::Relaxed) == AUTHENTICATED {
            return Poll::Pending;
        }
        self.end.waker.register(context.waker());
        if self.is_evicted() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The output of `future`, or `None` if the connection has to end first.
    pub async fn unless_evicted<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = poll_fn(|context| self.poll_evicted(context)) => None,
            given = future => Some(given),
        }
    }
}

impl Drop for UnauthenticatedConnection {
    fn drop(&mut self) {
        self.set_authenticated();
    }
}

impl HeldMemory {
    fn add(&mut self, origin: &UnauthenticatedOrigin<'_>, end: Arc<EvictionSignal>) -> u64 {
        self.next += 1;
        let (number, listener) = (self.next, Arc::clone(origin.listener));
        let here = self.listeners.entry(Arc::clone(&listener)).or_default();
        here.networks.insert(number, origin.source);
        if origin.has_permit {
            here.permits += 1;
            self.permits += 1;
        }
        let connection = TrackedConnection { listener, has_permit: origin.has_permit, bytes: 0, end };
        self.connections.insert(number, connection);
        self.resize(number, ConnectionPhase::Opening.bytes());
        number
    }

    fn resize(&mut self, number: u64, bytes: usize) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let before = std::mem::replace(&mut connection.bytes, bytes);
        self.bytes = self.bytes - before + bytes;
        if let Some(listener) = self.listeners.get_mut(&connection.listener) {
            listener.bytes = listener.bytes - before + bytes;
        }
    }

    fn remove(&mut self, number: u64) -> Option<Arc<EvictionSignal>> {
        self.resize(number, 0);
        let connection = self.connections.remove(&number)?;
        let here = self.listeners.get_mut(&connection.listener)?;
        here.networks.remove(number);
        if connection.has_permit {
            here.permits -= 1;
            self.permits -= 1;
        }
        if here.networks.len() == 0 {
            self.listeners.remove(&connection.listener);
        }
        Some(connection.end)
    }

    /// Ends connections until all are within the limits.
    fn evict(&mut self, room: &UnauthenticatedLimits, listener: &Arc<str>) {
        while let Some(largest) = self.fullest_listener(room, listener)
            && let Some(end) = largest.networks.next_to_evict().and_then(|number| self.remove(number))
        {
            end.is_set.store(true, Ordering::Relaxed);
            end.waker.wake();
        }
    }

    /// The listener where a connection has to end, if there is one.
    fn fullest_listener(&self, room: &UnauthenticatedLimits, listener: &Arc<str>) -> Option<&ListenerUsage> {
        if self.bytes > room.bytes {
            return self.listeners.values().max_by_key(|listener| listener.bytes);
        }
        if self.permits > room.permits {
            return self.listeners.values().max_by_key(|listener| listener.permits);
        }
        self.listeners.get(listener).filter(|here| here.permits > room.listener_connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: UnauthenticatedLimits = UnauthenticatedLimits {
        bytes: 16 * ConnectionPhase::Opening.bytes(),
        permits: usize::MAX,
        listener_connections: usize::MAX,
    };

    fn survivors(connections: &[UnauthenticatedConnection]) -> Vec<usize> {
        let numbered = connections.iter().enumerate().filter(|(_, it)| !it.is_evicted());
        numbered.map(|(number, _)| number).collect()
    }

    struct ListenerQuotas {
        connections: Arc<UnauthenticatedConnections>,
        room: UnauthenticatedLimits,
    }

    impl ListenerQuotas {
        fn new(room: UnauthenticatedLimits) -> Self {
            Self { connections: Arc::default(), room }
        }

        fn enter(&self, listener: &str, address: &str) -> UnauthenticatedConnection {
            let (listener, source) =
                (Arc::from(listener), Some(ClientKey::from_address(address.parse().unwrap())));
            let origin = UnauthenticatedOrigin { listener: &listener, source, has_permit: true };
            self.connections.register(self.room, &origin)
        }
    }

    #[test]
    fn the_oldest_of_the_largest_address_is_evicted() {
        let quotas = ListenerQuotas::new(ROOM);
        let enter = |last: usize| quotas.enter("listen", &format!("192.0.{last}.1"));
        let few = [enter(1), enter(1), enter(2)];
        let many: Vec<_> = (0..40).map(|_| enter(3)).collect();
        assert_eq!(survivors(&few), [0, 1, 2]);
        assert_eq!(survivors(&many), (27..40).collect::<Vec<_>>());
        let newcomer = enter(4);
        newcomer.set_phase(ConnectionPhase::Head);
        assert!(!newcomer.is_evicted());
        drop((few, many, newcomer));
        let held = quotas.connections.held();
        assert_eq!((held.bytes, held.permits, held.connections.len(), held.listeners.len()), (0, 0, 0, 0));
    }

    #[test]
    fn many_addresses_with_one_connection_exclude_none() {
        let room = UnauthenticatedLimits { bytes: 200 * ConnectionPhase::Head.bytes(), ..ROOM };
        for phase in [ConnectionPhase::Opening, ConnectionPhase::Head] {
            for prefix in ["2001:db8:0:", "2001:db8:"] {
                let quotas = ListenerQuotas::new(room);
                let attack = |each: usize| {
                    let attacker = quotas.enter("listen", &format!("{prefix}{each:x}::1"));
                    attacker.set_phase(phase);
                    attacker
                };
                let mut attackers: Vec<_> = (0..2000).map(attack).collect();
                let browser: Vec<_> = (0..6)
                    .map(|_| {
                        let newcomer = quotas.enter("listen", "203.0.113.1");
                        newcomer.set_phase(ConnectionPhase::Handshake);
                        newcomer.set_phase(ConnectionPhase::Head);
                        newcomer
                    })
                    .collect();
                // A client whose connection was closed comes again.
                for each in 0..150 {
                    attackers.push(attack(each));
                    for it in &browser {
                        it.set_phase(if each % 2 == 0 {
                            ConnectionPhase::Busy
                        } else {
                            ConnectionPhase::Idle
                        });
                    }
                }
                assert_eq!(survivors(&browser), [0, 1, 2, 3, 4, 5], "{phase:?} {prefix}");
            }
        }
    }

    #[test]
    fn the_largest_listener_gives_way_first() {
        let quotas = ListenerQuotas::new(ROOM);
        let few: Vec<_> = (0..6).map(|_| quotas.enter("listen", "192.0.2.1")).collect();
        let many: Vec<_> = (0..250).map(|last| quotas.enter("public", &format!("198.51.{last}.1"))).collect();
        assert_eq!(survivors(&few).len(), 6);
        assert_eq!(survivors(&many), (240..250).collect::<Vec<_>>());
    }

    #[test]
    fn unauthenticated_clients_leave_permits_to_others() {
        let quotas = ListenerQuotas::new(UnauthenticatedLimits {
            bytes: usize::MAX,
            permits: 30,
            listener_connections: 20,
        });
        let enter = |listener, each: usize| quotas.enter(listener, &format!("192.0.{each}.1"));
        let few: Vec<_> = (0..8).map(|each| enter("listen", each)).collect();
        let many: Vec<_> = (0..25).map(|each| enter("public", each)).collect();
        assert_eq!((survivors(&few).len(), survivors(&many)), (8, (5..25).collect::<Vec<_>>()));
        let more: Vec<_> = (0..4).map(|each| enter("listen", each)).collect();
        assert_eq!([&few, &more, &many].map(|held| survivors(held).len()), [8, 4, 18]);
        let listener = Arc::from("public");
        let rejected = UnauthenticatedOrigin { listener: &listener, source: None, has_permit: false };
        let rejected = quotas.connections.register(quotas.room, &rejected);
        assert_eq!((rejected.is_evicted(), survivors(&many).len()), (false, 18), "it has no place");
    }

    #[test]
    fn a_user_is_never_evicted() {
        let quotas = ListenerQuotas::new(ROOM);
        let user = quotas.enter("listen", "192.0.2.1");
        user.set_authenticated();
        user.set_phase(ConnectionPhase::Multiplexed);
        let _others: Vec<_> = (0..40).map(|_| quotas.enter("listen", "192.0.2.1")).collect();
        assert!(!user.is_evicted());
        assert_eq!(quotas.connections.held().bytes, ROOM.bytes);
    }
}
