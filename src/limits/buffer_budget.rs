//! Memory for request bodies that nodegate holds as a whole: one budget for all worker threads, shared between strangers
//! and users, between listeners, between addresses and networks, and between users.
//!
//! The first bytes of each body are not counted: the memory for connections holds them. So a login finds room however much
//! the others hold. Of more, a holder may take a fraction of what is still free, not of the whole: the more is taken, the
//! less each one gets.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::Excess;
use crate::limits::failure_table::Source;

/// So much of each body is not counted.
pub const UNCOUNTED: usize = 4 << 10;
/// Requests of users that wait at the same time.
const MAX_WAITING: usize = 256;
/// Of what is free for a listener, one address of strangers gets at most the first part of these, a /56 the second, a /48
/// the third.
const STRANGER_PARTS: [usize; 3] = [5, 3, 2];
/// The same of users, and of one user at all addresses.
const USER_PARTS: [usize; 3] = [2, 2, 2];
const ONE_USER_PARTS: usize = 2;

/// Whether somebody has shown who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    Stranger,
    User,
}

/// The budget, as the settings have it now.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub bytes: usize,
    /// with one listener there is nothing to share between them
    pub listeners: usize,
    /// for which users wait for room; strangers do not
    pub patience: Duration,
}

/// For whom a body is held.
pub struct Holder {
    standing: Standing,
    listener: Arc<str>,
    /// who it is counted for, and what part of the free bytes that one gets at most
    parts: Vec<(Part, usize)>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Part {
    /// an address, or a wider network by its level
    Network(usize, Source),
    User(Arc<str>),
}

impl Holder {
    /// `user` is a name that somebody has proven; without one it is a stranger. There is no `source` for addresses behind
    /// which there may be many clients.
    pub fn new(listener: Arc<str>, source: Option<Source>, user: Option<Arc<str>>) -> Self {
        let (standing, parts) = match user {
            None => (Standing::Stranger, STRANGER_PARTS),
            Some(_) => (Standing::User, USER_PARTS),
        };
        let levels = source.into_iter().flat_map(Source::levels).zip(parts).enumerate();
        let networks =
            levels.filter_map(|(level, (source, part))| Some((Part::Network(level, source?), part)));
        let user = user.map(|user| (Part::User(user), ONE_USER_PARTS));
        Self { standing, listener, parts: networks.chain(user).collect() }
    }
}

/// What is held now.
#[derive(Default)]
pub struct Buffered {
    held: Mutex<Held>,
    released: Notify,
}

#[derive(Default)]
struct Held {
    strangers: Share,
    users: Share,
    /// requests, not bytes
    waiting: Share,
}

/// What is taken of something, and by whom.
#[derive(Default)]
struct Share {
    taken: usize,
    by_listener: HashMap<Arc<str>, usize>,
    by_part: HashMap<(Arc<str>, Part), usize>,
}

/// Room for one body; given back when dropped.
pub struct Room {
    buffered: Arc<Buffered>,
    budget: Budget,
    holder: Holder,
    /// those that are counted
    bytes: usize,
}

impl Buffered {
    /// Room for the bytes that are not counted.
    pub fn room(self: &Arc<Self>, budget: Budget, holder: Holder) -> Room {
        Room { buffered: Arc::clone(self), budget, holder, bytes: 0 }
    }

    /// Takes so many bytes more. A user waits for them for a while.
    async fn take(&self, budget: Budget, holder: &Holder, bytes: usize) -> Result<(), Excess> {
        let until = Instant::now() + budget.patience;
        let mut waiting = None;
        loop {
            let released = self.released.notified();
            {
                let mut held = self.held();
                if held.take(budget, holder, bytes) {
                    return Ok(());
                }
                // What is given back from here on wakes this request.
                if waiting.is_none() {
                    if !held.begin_waiting(budget.listeners, holder) {
                        return Err(Excess::Buffered);
                    }
                    waiting = Some(Waiting { buffered: self, holder });
                }
            }
            timeout_at(until, released).await.map_err(|_| Excess::Buffered)?;
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Makes it large enough for so many bytes. A user waits for that for a while.
    ///
    /// # Errors
    /// [`Excess::Buffered`] if there is no room.
    pub async fn grow_to(&mut self, bytes: usize) -> Result<(), Excess> {
        let more = bytes.saturating_sub(UNCOUNTED).saturating_sub(self.bytes);
        if more > 0 {
            self.buffered.take(self.budget, &self.holder, more).await?;
            self.bytes += more;
        }
        Ok(())
    }

    /// The body has come, and is shorter than it could have been.
    pub fn shrink_to(&mut self, bytes: usize) {
        let more = self.bytes.saturating_sub(bytes.saturating_sub(UNCOUNTED));
        self.bytes -= more;
        self.give_back(more);
    }

    fn give_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut held = self.buffered.held();
        held.share(self.holder.standing).give_back(&self.holder, bytes);
        let someone_waits = held.waiting.taken > 0;
        drop(held);
        if someone_waits {
            self.buffered.released.notify_waiters();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

/// A request that waits for room.
struct Waiting<'b> {
    buffered: &'b Buffered,
    holder: &'b Holder,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.buffered.held().waiting.give_back(self.holder, 1);
    }
}

impl Held {
    fn take(&mut self, budget: Budget, holder: &Holder, bytes: usize) -> bool {
        let free = self.free_for(budget.bytes, holder.standing);
        self.share(holder.standing).take(free, budget.listeners, holder, bytes)
    }

    /// Whether this request may wait for room.
    fn begin_waiting(&mut self, listeners: usize, holder: &Holder) -> bool {
        let free = MAX_WAITING - self.waiting.taken;
        holder.standing == Standing::User && self.waiting.take(free, listeners, holder, 1)
    }

    /// Strangers have half of the budget at most, users all of it but an eighth.
    fn free_for(&self, all: usize, standing: Standing) -> usize {
        let (strangers, users) = (self.strangers.taken, self.users.taken);
        let left = all.saturating_sub(strangers + users);
        match standing {
            Standing::Stranger => left.min((all / 2).saturating_sub(strangers)),
            Standing::User => left.saturating_sub((all / 8).saturating_sub(strangers)),
        }
    }

    fn share(&mut self, standing: Standing) -> &mut Share {
        match standing {
            Standing::Stranger => &mut self.strangers,
            Standing::User => &mut self.users,
        }
    }
}

impl Share {
    /// The most that this holder may take now.
    fn room(&self, free: usize, listeners: usize, holder: &Holder) -> usize {
        let held = self.by_listener.get(&holder.listener).copied().unwrap_or_default();
        // One listener holds at most three times what it leaves to the others.
        let of_listener =
            if listeners < 2 { free } else { (free.saturating_mul(3).saturating_sub(held) / 4).min(free) };
        let of_part = |(part, parts): &(Part, usize)| {
            let key = (Arc::clone(&holder.listener), part.clone());
            let held = self.by_part.get(&key).copied().unwrap_or_default();
            // `held` and what is taken now are at most a `parts - 1`th of what is left then.
            of_listener.saturating_sub(held.saturating_mul(parts - 1)) / parts
        };
        holder.parts.iter().map(of_part).fold(of_listener, usize::min)
    }

    /// Takes so much of what is free, if this holder may have it.
    fn take(&mut self, free: usize, listeners: usize, holder: &Holder, amount: usize) -> bool {
        if self.room(free, listeners, holder) < amount {
            return false;
        }
        self.taken += amount;
        *self.by_listener.entry(Arc::clone(&holder.listener)).or_default() += amount;
        for (part, _) in &holder.parts {
            *self.by_part.entry((Arc::clone(&holder.listener), part.clone())).or_default() += amount;
        }
        true
    }

    fn give_back(&mut self, holder: &Holder, amount: usize) {
        self.taken -= amount;
        subtract(&mut self.by_listener, &holder.listener, amount);
        for (part, _) in &holder.parts {
            subtract(&mut self.by_part, &(Arc::clone(&holder.listener), part.clone()), amount);
        }
    }
}

fn subtract<K: Eq + Hash>(taken: &mut HashMap<K, usize>, key: &K, amount: usize) {
    if let Some(left) = taken.get_mut(key) {
        *left = left.saturating_sub(amount);
        if *left == 0 {
            taken.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ALL: usize = 1 << 20;

    fn at(standing: Standing, listener: &str, segments: Option<[u16; 4]>, user: &str) -> Holder {
        let address = |[a, b, c, d]: [u16; 4]| Source::of(std::net::IpAddr::from([a, b, c, d, 0, 0, 0, 1]));
        let user = (standing == Standing::User).then(|| user.into());
        Holder::new(listener.into(), segments.map(address), user)
    }

    /// One of another /48, and another user.
    fn holder(standing: Standing, listener: &str, number: Option<u16>) -> Holder {
        let user = number.map_or_else(String::new, |number| number.to_string());
        at(standing, listener, number.map(|number| [0x2001, 0xdb8, number, 0]), &user)
    }

    /// Takes pieces until there is no more room: how many bytes were taken.
    fn fill(held: &mut Held, listeners: usize, holder: &Holder, piece: usize) -> usize {
        let budget = Budget { bytes: ALL, listeners, patience: Duration::ZERO };
        (0..ALL).take_while(|_| held.take(budget, holder, piece)).count() * piece
    }

    #[tokio::test]
    async fn a_login_finds_room_whatever_the_others_hold() {
        let buffered = Arc::new(Buffered::default());
        for number in 0..2000 {
            for piece in [65_536, 4096, 256, 16, 1] {
                fill(&mut buffered.held(), 1, &holder(Standing::Stranger, "a", Some(number)), piece);
            }
        }
        let budget = Budget { bytes: ALL, listeners: 1, patience: Duration::ZERO };
        assert!(buffered.held().strangers.taken <= ALL / 2);
        let mut room = buffered.room(budget, holder(Standing::Stranger, "a", Some(2000)));
        room.grow_to(UNCOUNTED).await.unwrap();
        assert_eq!(room.grow_to(2 * UNCOUNTED).await, Err(Excess::Buffered));
    }

    #[test]
    fn one_address_leaves_most_to_others() {
        let mut held = Held::default();
        let taken = fill(&mut held, 1, &holder(Standing::Stranger, "a", Some(1)), 16_384);
        assert!((ALL / 16..=ALL / 10).contains(&taken), "{taken}");
    }

    #[test]
    fn wide_networks_and_users_leave_room_to_others() {
        let mut held = Held::default();
        for low in 0..1000 {
            let of_network = at(Standing::Stranger, "a", Some([0x2001, 0xdb8, 1, low]), "");
            fill(&mut held, 1, &of_network, 256);
            let of_user = at(Standing::User, "a", Some([0x2001, 0xdb8, low, 0]), "one");
            fill(&mut held, 1, &of_user, 256);
        }
        let other = fill(&mut held, 1, &holder(Standing::Stranger, "a", Some(2)), 256);
        assert!(other >= ALL / 32, "beside a /48: {other}");
        let other = fill(&mut held, 1, &at(Standing::User, "a", None, "other"), 256);
        assert!(other >= ALL / 16, "beside a user: {other}");
    }

    #[test]
    fn a_crowd_of_one_user_leaves_places_to_wait() {
        let mut held = Held::default();
        for low in 0..1000 {
            held.begin_waiting(1, &at(Standing::User, "a", Some([0x2001, 0xdb8, low, 0]), "one"));
        }
        assert!((MAX_WAITING / 4..=MAX_WAITING / 2).contains(&held.waiting.taken), "{}", held.waiting.taken);
        assert!(held.begin_waiting(1, &holder(Standing::User, "a", Some(1))));
        assert!(!held.begin_waiting(1, &holder(Standing::Stranger, "a", Some(2))));
    }

    #[test]
    fn users_and_strangers_leave_room_to_each_other() {
        for first in [Standing::User, Standing::Stranger] {
            let mut held = Held::default();
            let second = if first == Standing::User { Standing::Stranger } else { Standing::User };
            let taken = [first, second].map(|it| {
                (0..9)
                    .map(|user| fill(&mut held, 1, &at(it, "a", None, &user.to_string()), 4096))
                    .sum::<usize>()
            });
            assert!(taken.into_iter().all(|bytes| bytes >= ALL / 8 - 8192), "{taken:?}");
            assert!(held.users.taken + held.strangers.taken <= ALL);
        }
    }

    #[test]
    fn a_listener_leaves_room_to_the_others() {
        for standing in [Standing::User, Standing::Stranger] {
            let mut held = Held::default();
            for last in 0..3000 {
                fill(&mut held, 2, &holder(standing, "public", Some(last)), 4096);
            }
            fill(&mut held, 2, &holder(standing, "public", None), 4096);
            let other = fill(&mut held, 2, &holder(standing, "listen", Some(1)), 4096);
            assert!(other >= ALL / 64, "{standing:?}: {other}");
        }
    }

    #[tokio::test]
    async fn a_user_waits_for_room_and_a_stranger_does_not() {
        let (buffered, budget) = (
            Arc::new(Buffered::default()),
            Budget { bytes: ALL, listeners: 1, patience: Duration::from_mins(1) },
        );
        let user = || buffered.room(budget, at(Standing::User, "a", None, "one"));
        let (mut first, mut second) = (user(), user());
        first.grow_to(ALL / 8 * 3).await.unwrap();
        let (waited, ()) = tokio::join!(second.grow_to(ALL / 4), async {
            assert_eq!(buffered.held().waiting.taken, 1);
            first.shrink_to(100);
        });
        waited.unwrap();
        let mut stranger = buffered.room(budget, holder(Standing::Stranger, "a", None));
        assert_eq!(stranger.grow_to(ALL).await, Err(Excess::Buffered));
        drop((first, second, stranger));
        let held = buffered.held();
        assert_eq!((held.users.taken, held.strangers.taken, held.waiting.taken), (0, 0, 0));
        assert!(held.users.by_listener.is_empty() && held.users.by_part.is_empty());
        assert!(held.waiting.by_part.is_empty());
    }
}
