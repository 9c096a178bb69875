//! Permits for connections. There is a limit in all, a part for each listener, a reserve for clients that only get
//! the reason of their rejection, and an optional limit for one address of a listener. Numbers come in as values.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::LimitExceeded;
use super::shares::{ListenerShare, ListenerShares, subtract};
use crate::limits::failure_table::ClientKey;
use crate::limits::unauthenticated::UnauthenticatedLimits;

/// Descriptors that belong to no client: log, listeners, event loops, files of uploads.
const OWN_DESCRIPTORS: usize = 128;
/// The client's descriptor, and one for the daemon or a machine.
const DESCRIPTORS_PER_CONNECTION: usize = 2;
/// The highest limit without a setting, because each connection costs memory too.
const MAX_DEFAULT_CONNECTIONS: usize = 16_384;
/// One address gets at most 1/8 of the reserve.
const RESERVE_DIVISOR: usize = 8;

/// Bytes for unauthenticated connections, per permitted connection.
const BYTES_PER_UNAUTHENTICATED: usize = 12 << 10;
const MIN_UNAUTHENTICATED_BYTES: usize = 16 << 20;
/// One of four permits is for authenticated clients.
const AUTHENTICATED_DIVISOR: usize = 4;

/// The limit of open connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectionCapacity {
    pub connections: usize,
    /// beyond `connections`, for clients that get the reason why nodegate rejects them
    pub reserve: usize,
}

impl ConnectionCapacity {
    /// `setting`, or with 0 the number that the descriptors of the process allow. They are never used up first.
    pub fn new(setting: usize, descriptors: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let usable = descriptors.saturating_sub(OWN_DESCRIPTORS.min(descriptors / 4));
        let reserve = (usable / 16).clamp(1, 64);
        let connections = match setting {
            0 => (usable.saturating_sub(reserve) / DESCRIPTORS_PER_CONNECTION)
                .clamp(1, MAX_DEFAULT_CONNECTIONS),
            setting => setting,
        };
        Self { connections, reserve }
    }

    /// Memory for the connections of unauthenticated clients.
    pub fn unauthenticated_bytes(self) -> usize {
        self.connections.saturating_mul(BYTES_PER_UNAUTHENTICATED).max(MIN_UNAUTHENTICATED_BYTES)
    }

    /// The limits for unauthenticated connections, so that these never take all permits. `limit` is that of the
    /// listener, 0 for none.
    pub fn unauthenticated_limits(self, limit: usize) -> UnauthenticatedLimits {
        let most = |permits: usize| permits - permits / AUTHENTICATED_DIVISOR;
        UnauthenticatedLimits {
            bytes: self.unauthenticated_bytes(),
            permits: most(self.connections),
            listener_connections: if limit == 0 { usize::MAX } else { most(limit) },
        }
    }

    /// Descriptors that may be open when all permits are taken.
    pub fn descriptors(self) -> usize {
        self.connections
            .saturating_mul(DESCRIPTORS_PER_CONNECTION)
            .saturating_add(self.reserve + OWN_DESCRIPTORS)
    }
}

/// The origin of a connection, with the limits for it.
#[derive(Clone, Copy)]
pub struct ConnectionOrigin<'a> {
    pub at: &'a ListenerShare,
    /// for this listener; 0 for none
    pub limit: usize,
    /// the address, if it stands for one client
    pub source: Option<ClientKey>,
    /// for one address at this listener; 0 for none
    pub limit_of_source: usize,
}

/// The permits that are taken.
#[derive(Default)]
pub struct ConnectionCounts {
    taken: Mutex<TakenPermits>,
}

#[derive(Default)]
struct TakenPermits {
    by_listener: ListenerShares,
    /// only those that are counted by address
    by_source: HashMap<(Arc<str>, ClientKey), usize>,
    /// clients that get the reason why nodegate rejects them
    in_reserve: usize,
    reserve_by_source: HashMap<ClientKey, usize>,
}

/// A permit, and the limit that keeps nodegate from serving the connection, if there is one.
pub struct AcquiredConnection {
    pub permit: ConnectionPermit,
    pub exceeded: Option<LimitExceeded>,
}

/// A permit for one connection or request. Dropping it frees the permit.
pub struct ConnectionPermit {
    counts: Arc<ConnectionCounts>,
    listener: Arc<str>,
    source: Option<ClientKey>,
    in_reserve: bool,
}

impl ConnectionCounts {
    /// Acquires a permit for a connection.
    ///
    /// # Errors
    /// The limit that is reached, if there is no room left to send the client the reason.
    pub fn try_acquire_connection(
        self: &Arc<Self>,
        capacity: ConnectionCapacity,
        arrival: ConnectionOrigin<'_>,
    ) -> Result<AcquiredConnection, LimitExceeded> {
        let mut taken = self.taken();
        let exceeded = taken.exceeded(capacity, arrival);
        if let Some(exceeded) = exceeded
            && !taken.has_reserve(capacity, arrival.source)
        {
            return Err(exceeded);
        }
        let in_reserve = exceeded.is_some();
        let source = arrival.source.filter(|_| in_reserve || arrival.limit_of_source > 0);
        let listener = Arc::clone(&arrival.at.listener);
        let permit = ConnectionPermit { counts: Arc::clone(self), listener, source, in_reserve };
        taken.take(&permit);
        Ok(AcquiredConnection { permit, exceeded })
    }

    /// Acquires a permit for a request, where requests are counted by address.
    ///
    /// # Errors
    /// [`LimitExceeded::RequestsOfAddress`] if the address has as many already.
    pub fn try_acquire(
        self: &Arc<Self>,
        listener: &Arc<str>,
        source: ClientKey,
        limit: usize,
    ) -> Result<ConnectionPermit, LimitExceeded> {
        let mut taken = self.taken();
        if taken.of_source(listener, source) >= limit {
            return Err(LimitExceeded::RequestsOfAddress { limit });
        }
        let (listener, source) = (Arc::clone(listener), Some(source));
        let permit = ConnectionPermit { counts: Arc::clone(self), listener, source, in_reserve: false };
        taken.take(&permit);
        Ok(permit)
    }

    fn taken(&self) -> MutexGuard<'_, TakenPermits> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TakenPermits {
    fn has_room(&self, capacity: ConnectionCapacity, arrival: ConnectionOrigin<'_>) -> bool {
        let is_within = arrival.limit == 0 || self.by_listener.taken(&arrival.at.listener) < arrival.limit;
        is_within && self.by_listener.has_room(arrival.at, capacity.connections)
    }

    fn exceeded(&self, capacity: ConnectionCapacity, arrival: ConnectionOrigin<'_>) -> Option<LimitExceeded> {
        let limit = arrival.limit_of_source;
        let of_source = arrival.source.filter(|_| limit > 0);
        if of_source.is_some_and(|source| self.of_source(&arrival.at.listener, source) >= limit) {
            return Some(LimitExceeded::ConnectionsOfAddress { limit });
        }
        (!self.has_room(capacity, arrival)).then_some(LimitExceeded::Connections)
    }

    /// One address must not fill the reserve, or nodegate would close the connections of other clients without a
    /// reason.
    fn has_reserve(&self, capacity: ConnectionCapacity, source: Option<ClientKey>) -> bool {
        let in_reserve =
            source.and_then(|source| self.reserve_by_source.get(&source)).copied().unwrap_or_default();
        self.in_reserve < capacity.reserve && in_reserve < (capacity.reserve / RESERVE_DIVISOR).max(1)
    }

    fn of_source(&self, listener: &Arc<str>, source: ClientKey) -> usize {
        self.by_source.get(&(Arc::clone(listener), source)).copied().unwrap_or_default()
    }

    fn take(&mut self, permit: &ConnectionPermit) {
        if permit.in_reserve {
            self.in_reserve += 1;
            if let Some(source) = permit.source {
                *self.reserve_by_source.entry(source).or_default() += 1;
            }
            return;
        }
        self.by_listener.take(&permit.listener);
        if let Some(source) = permit.source {
            *self.by_source.entry((Arc::clone(&permit.listener), source)).or_default() += 1;
        }
    }

    fn give_back(&mut self, permit: &ConnectionPermit) {
        if permit.in_reserve {
            self.in_reserve -= 1;
            if let Some(source) = permit.source {
                subtract(&mut self.reserve_by_source, &source, 1);
            }
            return;
        }
        self.by_listener.give_back(&permit.listener);
        if let Some(source) = permit.source {
            subtract(&mut self.by_source, &(Arc::clone(&permit.listener), source), 1);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let counts = Arc::clone(&self.counts);
        counts.taken().give_back(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> ClientKey {
        ClientKey::from_address(std::net::IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn the_default_limit_follows_the_descriptors() {
        for descriptors in [64, 256, 1024, 20_000, 524_288] {
            let capacity = ConnectionCapacity::new(0, descriptors);
            let own = 128.min(usize::try_from(descriptors).unwrap() / 4);
            let most = capacity.connections * 2 + capacity.reserve + own;
            assert!(most <= usize::try_from(descriptors).unwrap(), "{descriptors}: {capacity:?}");
        }
        assert_eq!(ConnectionCapacity::new(0, 1024), ConnectionCapacity { connections: 420, reserve: 56 });
        assert_eq!(ConnectionCapacity::new(0, 1 << 30).connections, 16_384);
        assert_eq!(ConnectionCapacity::new(7, 1024).connections, 7);
        assert_eq!(ConnectionCapacity::new(1000, 1024).descriptors(), 2184);
    }

    #[test]
    fn unauthenticated_clients_never_have_all_permits() {
        for connections in [4, 100, 420, 1000, 16_384] {
            let capacity = ConnectionCapacity { connections, reserve: 1 };
            for limit in [0, 4, connections] {
                let room = capacity.unauthenticated_limits(limit);
                assert_eq!(room.permits, connections * 3 / 4);
                assert_eq!(room.listener_connections, if limit == 0 { usize::MAX } else { limit * 3 / 4 });
            }
        }
        assert_eq!(ConnectionCapacity { connections: 1, reserve: 1 }.unauthenticated_limits(0).permits, 1);
    }

    fn at(listener: &str, listeners: usize) -> ListenerShare {
        ListenerShare { listener: listener.into(), listeners }
    }

    fn arrival(at: &ListenerShare, of_source: Option<(ClientKey, usize)>) -> ConnectionOrigin<'_> {
        let limit_of_source = of_source.map_or(0, |(_, limit)| limit);
        ConnectionOrigin { at, limit: 0, source: of_source.map(|(source, _)| source), limit_of_source }
    }

    #[test]
    fn the_reserve_answers_503_until_exhausted() {
        let (counts, listener) = (Arc::new(ConnectionCounts::default()), at("listen", 1));
        let capacity = ConnectionCapacity { connections: 2, reserve: 1 };
        let enter = || counts.try_acquire_connection(capacity, arrival(&listener, None));
        let inside = [enter().unwrap(), enter().unwrap()];
        assert!(inside.iter().all(|acquired| acquired.exceeded.is_none()));
        let in_reserve = enter().unwrap();
        assert_eq!(in_reserve.exceeded, Some(LimitExceeded::Connections));
        assert_eq!(enter().err(), Some(LimitExceeded::Connections));
        drop(in_reserve);
        assert!(enter().unwrap().exceeded.is_some());
        drop(inside);
        assert!(enter().unwrap().exceeded.is_none());
        assert!(counts.taken().by_listener.taken.is_empty());
    }

    #[test]
    fn a_listener_has_permits_that_others_cannot_take() {
        let (counts, [public, own]) =
            (Arc::new(ConnectionCounts::default()), ["public", "listen"].map(|name| at(name, 2)));
        let capacity = ConnectionCapacity { connections: 80, reserve: 1 };
        let enter = |listener| counts.try_acquire_connection(capacity, arrival(listener, None));
        let fill = |listener| {
            let entered =
                std::iter::from_fn(|| enter(listener).ok().filter(|acquired| acquired.exceeded.is_none()));
            entered.take(1000).collect::<Vec<_>>()
        };
        let strangers = fill(&public);
        assert_eq!((strangers.len(), fill(&own).len()), (70, 10));
        let limited = ConnectionOrigin { limit: 75, ..arrival(&own, None) };
        drop(strangers);
        let mut held: Vec<_> =
            (0..75).filter_map(|_| counts.try_acquire_connection(capacity, limited).ok()).collect();
        assert!(
            held.drain(..70).all(|acquired| acquired.exceeded.is_none()),
            "all that the other one does not have"
        );
        assert!(held.drain(..).any(|acquired| acquired.exceeded == Some(LimitExceeded::Connections)));
    }

    #[test]
    fn a_listeners_limit_counts_only_there() {
        let (counts, [public, own]) =
            (Arc::new(ConnectionCounts::default()), ["public", "listen"].map(|name| at(name, 2)));
        let capacity = ConnectionCapacity { connections: 80, reserve: 1 };
        let limited = ConnectionOrigin { limit: 1, ..arrival(&public, None) };
        let _first = counts.try_acquire_connection(capacity, limited).unwrap();
        assert_eq!(
            counts.try_acquire_connection(capacity, limited).unwrap().exceeded,
            Some(LimitExceeded::Connections)
        );
        assert!(counts.try_acquire_connection(capacity, arrival(&own, None)).unwrap().exceeded.is_none());
    }

    #[test]
    fn an_address_cannot_fill_the_reserve() {
        let (counts, listener) = (Arc::new(ConnectionCounts::default()), at("listen", 1));
        let capacity = ConnectionCapacity { connections: 1, reserve: 64 };
        for limit in [0, 1] {
            let enter = |last| {
                counts.try_acquire_connection(capacity, arrival(&listener, Some((source(last), limit))))
            };
            let _inside = enter(1).unwrap();
            let exceeded = if limit == 0 {
                LimitExceeded::Connections
            } else {
                LimitExceeded::ConnectionsOfAddress { limit }
            };
            let in_reserve: Vec<_> = (0..8).map(|_| enter(1).unwrap()).collect();
            assert!(in_reserve.iter().all(|acquired| acquired.exceeded == Some(exceeded)));
            assert_eq!(enter(1).err(), Some(exceeded), "the reason is the same without a permit");
            assert_eq!(enter(2).unwrap().exceeded, Some(LimitExceeded::Connections));
            drop(in_reserve);
            assert!(enter(1).is_ok());
        }
        assert!(counts.taken().reserve_by_source.is_empty() && counts.taken().in_reserve == 0);
    }

    #[test]
    fn permits_per_address_are_limited_and_returned() {
        let (counts, listener) = (Arc::new(ConnectionCounts::default()), at("listen", 1));
        let capacity = ConnectionCapacity { connections: 10, reserve: 1 };
        let enter = |last| {
            counts.try_acquire_connection(capacity, arrival(&listener, Some((source(last), 1)))).unwrap()
        };
        let first = enter(1);
        let second = enter(1);
        assert_eq!(second.exceeded, Some(LimitExceeded::ConnectionsOfAddress { limit: 1 }));
        assert!(enter(2).exceeded.is_none());
        drop(second);
        assert!(enter(1).exceeded.is_some());
        drop(first);
        assert!(enter(1).exceeded.is_none());
        assert!(counts.taken().by_source.is_empty());
        let asked = counts.try_acquire(&listener.listener, source(1), 1).unwrap();
        assert_eq!(
            counts.try_acquire(&listener.listener, source(1), 1).err(),
            Some(LimitExceeded::RequestsOfAddress { limit: 1 })
        );
        assert!(counts.try_acquire(&Arc::from("public"), source(1), 1).is_ok(), "another listener");
        drop(asked);
        assert!(counts.try_acquire(&listener.listener, source(1), 1).is_ok());
    }
}
