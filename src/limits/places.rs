//! Places for connections: so many in all, some more for those who are only told that the house is full, and, where the
//! settings say so, so many for one address. Numbers come in as values.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Excess;
use super::failures::Source;

/// Descriptors that are no client's: log, listeners, event loops, uploads' files.
const OWN_DESCRIPTORS: usize = 128;
/// A client's, and one to a daemon or a machine for it.
const DESCRIPTORS: usize = 2;
/// More than these are allowed by the settings alone: each one costs memory, too.
const MOST_BY_ITSELF: usize = 16_384;

/// How many may be open at the same time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    pub connections: usize,
    /// beyond these, for clients that are told why they are not served
    pub reserve: usize,
}

impl Capacity {
    /// By the setting, or by the descriptors that the process may have: they are never used up first.
    pub fn new(setting: usize, descriptors: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let usable = descriptors.saturating_sub(OWN_DESCRIPTORS.min(descriptors / 4));
        let reserve = (usable / 16).clamp(1, 64);
        let connections = match setting {
            0 => (usable.saturating_sub(reserve) / DESCRIPTORS).clamp(1, MOST_BY_ITSELF),
            setting => setting,
        };
        Self { connections, reserve }
    }

    /// Descriptors that may be in use when the house is full.
    pub fn descriptors(self) -> usize {
        self.connections.saturating_mul(DESCRIPTORS).saturating_add(self.reserve + OWN_DESCRIPTORS)
    }
}

/// How many are taken.
#[derive(Default)]
pub struct Places {
    taken: AtomicUsize,
    /// only those that are counted by address
    by_source: Mutex<HashMap<Source, usize>>,
}

/// A place at the table; free again when dropped.
pub struct Place {
    places: Arc<Places>,
    source: Option<Source>,
}

impl Places {
    /// A place for a connection, or what to tell its client; nothing when there is not even room for that.
    pub fn connect(
        self: &Arc<Self>,
        capacity: Capacity,
        of_source: Option<(Source, usize)>,
    ) -> Option<(Place, Option<Excess>)> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let mut place = Place { places: Arc::clone(self), source: None };
        if before >= capacity.connections.saturating_add(capacity.reserve) {
            return None;
        }
        if before >= capacity.connections {
            return Some((place, Some(Excess::Connections)));
        }
        if let Some((source, limit)) = of_source
            && !place.claim(source, limit)
        {
            return Some((place, Some(Excess::ConnectionsOfAddress { limit })));
        }
        Some((place, None))
    }

    /// A place for a request, where they are counted by address.
    pub fn ask(self: &Arc<Self>, source: Source, limit: usize) -> Result<Place, Excess> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        let mut place = Place { places: Arc::clone(self), source: None };
        if place.claim(source, limit) { Ok(place) } else { Err(Excess::RequestsOfAddress { limit }) }
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        self.by_source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn claim(&mut self, source: Source, limit: usize) -> bool {
        let mut sources = self.places.sources();
        let taken = sources.entry(source).or_default();
        if *taken >= limit {
            return false;
        }
        *taken += 1;
        drop(sources);
        self.source = Some(source);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
        let Some(source) = self.source else { return };
        let mut sources = self.places.sources();
        if let Some(taken) = sources.get_mut(&source) {
            *taken -= 1;
            if *taken == 0 {
                sources.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn source(last: u8) -> Source {
        Source::of(std::net::IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn by_itself_it_opens_no_more_than_there_are_descriptors_for() {
        for descriptors in [64, 256, 1024, 20_000, 524_288] {
            let capacity = Capacity::new(0, descriptors);
            let own = 128.min(usize::try_from(descriptors).unwrap() / 4);
            let most = capacity.connections * 2 + capacity.reserve + own;
            assert!(most <= usize::try_from(descriptors).unwrap(), "{descriptors}: {capacity:?}");
        }
        assert_eq!(Capacity::new(0, 1024), Capacity { connections: 420, reserve: 56 });
        assert_eq!(Capacity::new(0, 1 << 30).connections, 16_384);
        assert_eq!(Capacity::new(7, 1024).connections, 7);
        assert_eq!(Capacity::new(1000, 1024).descriptors(), 2184);
    }

    #[test]
    fn a_full_house_has_room_for_telling_so_and_then_for_nobody() {
        let places = Arc::new(Places::default());
        let capacity = Capacity { connections: 2, reserve: 1 };
        let enter = || places.connect(capacity, None);
        let inside = [enter().unwrap(), enter().unwrap()];
        assert!(inside.iter().all(|(_, excess)| excess.is_none()));
        let told = enter().unwrap();
        assert_eq!(told.1, Some(Excess::Connections));
        assert!(enter().is_none() && enter().is_none());
        drop(told);
        assert!(enter().unwrap().1.is_some());
        drop(inside);
        assert!(enter().unwrap().1.is_none());
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let places = Arc::new(Places::default());
        let capacity = Capacity { connections: 10, reserve: 1 };
        let enter = |last| places.connect(capacity, Some((source(last), 1))).unwrap();
        let first = enter(1);
        let second = enter(1);
        assert_eq!(second.1, Some(Excess::ConnectionsOfAddress { limit: 1 }));
        assert!(enter(2).1.is_none());
        drop(second);
        assert!(enter(1).1.is_some());
        drop(first);
        assert!(enter(1).1.is_none());
        assert!(places.sources().is_empty());
        let asked = places.ask(source(1), 1).unwrap();
        assert_eq!(places.ask(source(1), 1).err(), Some(Excess::RequestsOfAddress { limit: 1 }));
        drop(asked);
        assert!(places.ask(source(1), 1).is_ok());
    }
}
