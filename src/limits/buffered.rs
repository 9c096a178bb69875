//! Memory for request bodies that nodegate holds as a whole: one budget for all worker threads, shared between strangers
//! and users, between listeners, and between addresses.
//!
//! A holder may take a fraction of what is still free, not of the whole. So the more is taken, the less each one gets,
//! and a client that needs little finds room however much the others hold.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::Excess;
use super::failures::Source;

/// Requests of users that wait at the same time.
const MAX_WAITING: usize = 256;
/// The least that a body counts as, however short it is.
const MIN_CHARGE: usize = 256;
/// Of what is free for a listener, one address of strangers gets at most this part, one of users at most half.
const STRANGER_PARTS: usize = 5;
const USER_PARTS: usize = 2;

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
#[derive(Clone, Debug)]
pub struct Holder {
    pub standing: Standing,
    pub listener: Arc<str>,
    /// `None` for addresses behind which there may be many clients
    pub source: Option<Source>,
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
    waiting: usize,
}

#[derive(Default)]
struct Share {
    bytes: usize,
    by_listener: HashMap<Arc<str>, usize>,
    by_address: HashMap<(Arc<str>, Source), usize>,
}

/// Room for one body; given back when dropped.
pub struct Room {
    buffered: Arc<Buffered>,
    holder: Holder,
    bytes: usize,
}

impl Buffered {
    /// Room for so many bytes. A user waits for it for a while.
    ///
    /// # Errors
    /// [`Excess::Buffered`] if there is none.
    pub async fn reserve(
        self: &Arc<Self>,
        budget: Budget,
        holder: Holder,
        bytes: usize,
    ) -> Result<Room, Excess> {
        let bytes = bytes.max(MIN_CHARGE);
        let until = Instant::now() + budget.patience;
        let mut waiting = None;
        loop {
            let released = self.released.notified();
            if self.held().take(budget, &holder, bytes) {
                return Ok(Room { buffered: Arc::clone(self), holder, bytes });
            }
            if waiting.is_none() {
                let may_wait = holder.standing == Standing::User;
                waiting = Some(Waiting::begin(self).filter(|_| may_wait).ok_or(Excess::Buffered)?);
            }
            timeout_at(until, released).await.map_err(|_| Excess::Buffered)?;
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// The body has come, and is shorter than it could have been.
    pub fn shrink_to(&mut self, bytes: usize) {
        let bytes = bytes.max(MIN_CHARGE);
        let more = self.bytes.saturating_sub(bytes);
        self.bytes -= more;
        self.give_back(more);
    }

    fn give_back(&self, bytes: usize) {
        let mut held = self.buffered.held();
        held.share(self.holder.standing).give_back(&self.holder, bytes);
        let someone_waits = held.waiting > 0;
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
struct Waiting<'b>(&'b Buffered);

impl<'b> Waiting<'b> {
    fn begin(buffered: &'b Buffered) -> Option<Self> {
        let mut held = buffered.held();
        if held.waiting >= MAX_WAITING {
            return None;
        }
        held.waiting += 1;
        Some(Self(buffered))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.held().waiting -= 1;
    }
}

impl Held {
    fn take(&mut self, budget: Budget, holder: &Holder, bytes: usize) -> bool {
        let free = self.free_for(budget.bytes, holder.standing);
        let share = self.share(holder.standing);
        let fits = share.room(free, budget.listeners, holder) >= bytes;
        if fits {
            share.take(holder, bytes);
        }
        fits
    }

    /// Strangers have half of the budget at most, users all of it but an eighth.
    fn free_for(&self, all: usize, standing: Standing) -> usize {
        let (strangers, users) = (self.strangers.bytes, self.users.bytes);
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
        let Some(source) = holder.source else { return of_listener };
        let held = self.by_address.get(&(Arc::clone(&holder.listener), source)).copied().unwrap_or_default();
        let parts = match holder.standing {
            Standing::Stranger => STRANGER_PARTS,
            Standing::User => USER_PARTS,
        };
        // `held` and what is taken now are at most a `parts - 1`th of what is left then.
        of_listener.saturating_sub(held.saturating_mul(parts - 1)) / parts
    }

    fn take(&mut self, holder: &Holder, bytes: usize) {
        self.bytes += bytes;
        *self.by_listener.entry(Arc::clone(&holder.listener)).or_default() += bytes;
        if let Some(source) = holder.source {
            *self.by_address.entry((Arc::clone(&holder.listener), source)).or_default() += bytes;
        }
    }

    fn give_back(&mut self, holder: &Holder, bytes: usize) {
        self.bytes -= bytes;
        subtract(&mut self.by_listener, &holder.listener, bytes);
        if let Some(source) = holder.source {
            subtract(&mut self.by_address, &(Arc::clone(&holder.listener), source), bytes);
        }
    }
}

fn subtract<K: Eq + Hash>(held: &mut HashMap<K, usize>, key: &K, bytes: usize) {
    if let Some(left) = held.get_mut(key) {
        *left = left.saturating_sub(bytes);
        if *left == 0 {
            held.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ALL: usize = 1 << 20;

    fn holder(standing: Standing, listener: &str, last: Option<u16>) -> Holder {
        let address = |last: u16| Source::of(std::net::IpAddr::from([0x2001, 0xdb8, 0, last, 0, 0, 0, 1]));
        Holder { standing, listener: listener.into(), source: last.map(address) }
    }

    /// Takes pieces until there is no more room: how many bytes were taken.
    fn fill(held: &mut Held, listeners: usize, holder: &Holder, piece: usize) -> usize {
        let budget = Budget { bytes: ALL, listeners, patience: Duration::ZERO };
        (0..ALL).take_while(|_| held.take(budget, holder, piece)).count() * piece
    }

    #[test]
    fn one_address_leaves_most_to_others() {
        let mut held = Held::default();
        let taken = fill(&mut held, 1, &holder(Standing::Stranger, "a", Some(1)), 16_384);
        assert!((ALL / 16..=ALL / 10).contains(&taken), "{taken}");
        for last in 2..2000 {
            fill(&mut held, 1, &holder(Standing::Stranger, "a", Some(last)), 16_384);
        }
        let small = fill(&mut held, 1, &holder(Standing::Stranger, "a", Some(2000)), 300);
        assert!(small >= 300, "a short body finds room beside any number of long ones");
        assert!(held.strangers.bytes <= ALL / 2, "{}", held.strangers.bytes);
    }

    #[test]
    fn users_and_strangers_leave_room_to_each_other() {
        for first in [Standing::User, Standing::Stranger] {
            let mut held = Held::default();
            let second = if first == Standing::User { Standing::Stranger } else { Standing::User };
            let taken = [first, second].map(|it| fill(&mut held, 1, &holder(it, "a", None), 4096));
            assert!(taken.into_iter().all(|bytes| bytes >= ALL / 8 - 4096), "{taken:?}");
            assert!(held.users.bytes + held.strangers.bytes <= ALL);
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
        let user = || holder(Standing::User, "a", None);
        let mut first = buffered.reserve(budget, user(), ALL / 4 * 3).await.unwrap();
        let waits = buffered.reserve(budget, user(), ALL / 4);
        let (second, ()) = tokio::join!(waits, async { first.shrink_to(100) });
        let stranger = buffered.reserve(budget, holder(Standing::Stranger, "a", None), ALL).await;
        assert_eq!(stranger.err(), Some(Excess::Buffered));
        drop((first, second.unwrap()));
        let held = buffered.held();
        assert_eq!((held.users.bytes, held.strangers.bytes, held.waiting), (0, 0, 0));
        assert!(held.users.by_listener.is_empty() && held.users.by_address.is_empty());
    }
}
