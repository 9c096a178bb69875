//! Memory for request bodies that nodegate buffers as a whole. All worker threads share one budget. It is divided
//! between strangers and users, between listeners, between addresses and networks, and between users.
//!
//! The first bytes of each body are not counted, because the memory for connections holds them. So a login finds room
//! even if the budget is used up. Beyond them an owner may take a fraction of what is still free, not of the whole.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::LimitExceeded;
use crate::limits::failure_table::ClientKey;

/// The first bytes of each body, which are not counted.
pub const UNCOUNTED: usize = 4 << 10;
/// Limit of users' requests that wait at the same time.
const MAX_WAITING: usize = 256;
/// Divisors of the bytes that are free for a listener: one address of strangers gets at most 1/5, a /56 1/3, a /48
/// 1/2.
const STRANGER_PARTS: [usize; 3] = [5, 3, 2];
/// The same for users, and for one user at all addresses.
const USER_PARTS: [usize; 3] = [2, 2, 2];
const ONE_USER_PARTS: usize = 2;

/// Whether the client has shown a good credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OwnerTrust {
    Stranger,
    User,
}

/// The budget by the current settings.
#[derive(Clone, Copy, Debug)]
pub struct BufferBudget {
    pub bytes: usize,
    /// with one listener nothing is divided between listeners
    pub listeners: usize,
    /// how long a user waits for room; strangers do not wait
    pub patience: Duration,
}

/// The client that a body is buffered for.
pub struct BufferOwner {
    standing: OwnerTrust,
    listener: Arc<str>,
    /// the parts that the bytes are counted for, each with the divisor of the free bytes
    parts: Vec<(BudgetPart, usize)>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum BudgetPart {
    /// an address, or a wider network by its level
    Network(usize, ClientKey),
    User(Arc<str>),
}

impl BufferOwner {
    /// `user` is a verified name; without one the owner is a stranger. `source` is `None` for an address that may
    /// stand for many clients.
    pub fn new(listener: Arc<str>, source: Option<ClientKey>, user: Option<Arc<str>>) -> Self {
        let (standing, parts) = match user {
            None => (OwnerTrust::Stranger, STRANGER_PARTS),
            Some(_) => (OwnerTrust::User, USER_PARTS),
        };
        let levels = source.into_iter().flat_map(ClientKey::levels).zip(parts).enumerate();
        let networks =
            levels.filter_map(|(level, (source, part))| Some((BudgetPart::Network(level, source?), part)));
        let user = user.map(|user| (BudgetPart::User(user), ONE_USER_PARTS));
        Self { standing, listener, parts: networks.chain(user).collect() }
    }
}

/// The bytes that are taken now.
#[derive(Default)]
pub struct BufferLedger {
    held: Mutex<HeldBuffers>,
    released: Notify,
}

#[derive(Default)]
struct HeldBuffers {
    strangers: BufferShare,
    users: BufferShare,
    /// requests, not bytes
    waiting: BufferShare,
}

/// The amount that is taken, by listener and by part.
#[derive(Default)]
struct BufferShare {
    taken: usize,
    by_listener: HashMap<Arc<str>, usize>,
    by_part: HashMap<(Arc<str>, BudgetPart), usize>,
}

/// Room for one body. Dropping it gives the bytes back.
pub struct BufferPermit {
    buffered: Arc<BufferLedger>,
    budget: BufferBudget,
    holder: BufferOwner,
    /// only the counted bytes
    bytes: usize,
}

impl BufferLedger {
    /// A permit for the bytes that are not counted.
    pub fn room(self: &Arc<Self>, budget: BufferBudget, holder: BufferOwner) -> BufferPermit {
        BufferPermit { buffered: Arc::clone(self), budget, holder, bytes: 0 }
    }

    /// Takes more bytes. A user waits for them for at most `BufferBudget::patience`.
    async fn take(
        &self,
        budget: BufferBudget,
        holder: &BufferOwner,
        bytes: usize,
    ) -> Result<(), LimitExceeded> {
        let until = Instant::now() + budget.patience;
        let mut waiting = None;
        loop {
            let released = self.released.notified();
            {
                let mut held = self.held();
                if held.take(budget, holder, bytes) {
                    return Ok(());
                }
                // Bytes that are given back from here on wake this request.
                if waiting.is_none() {
                    if !held.begin_waiting(budget.listeners, holder) {
                        return Err(LimitExceeded::Buffered);
                    }
                    waiting = Some(BufferWaiter { buffered: self, holder });
                }
            }
            timeout_at(until, released).await.map_err(|_| LimitExceeded::Buffered)?;
        }
    }

    fn held(&self) -> MutexGuard<'_, HeldBuffers> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BufferPermit {
    /// Makes room for a body of `bytes`. A user waits for that for at most `BufferBudget::patience`.
    ///
    /// # Errors
    /// [`LimitExceeded::Buffered`] if there is no room.
    pub async fn grow_to(&mut self, bytes: usize) -> Result<(), LimitExceeded> {
        let more = bytes.saturating_sub(UNCOUNTED).saturating_sub(self.bytes);
        if more > 0 {
            self.buffered.take(self.budget, &self.holder, more).await?;
            self.bytes += more;
        }
        Ok(())
    }

    /// Gives back the room that the body did not need.
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

impl Drop for BufferPermit {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

/// A request that waits for room.
struct BufferWaiter<'b> {
    buffered: &'b BufferLedger,
    holder: &'b BufferOwner,
}

impl Drop for BufferWaiter<'_> {
    fn drop(&mut self) {
        self.buffered.held().waiting.give_back(self.holder, 1);
    }
}

impl HeldBuffers {
    fn take(&mut self, budget: BufferBudget, holder: &BufferOwner, bytes: usize) -> bool {
        let free = self.free_for(budget.bytes, holder.standing);
        self.share(holder.standing).take(free, budget.listeners, holder, bytes)
    }

    /// Registers a waiting request, if this owner may wait.
    fn begin_waiting(&mut self, listeners: usize, holder: &BufferOwner) -> bool {
        let free = MAX_WAITING - self.waiting.taken;
        holder.standing == OwnerTrust::User && self.waiting.take(free, listeners, holder, 1)
    }

    /// Strangers get at most half of the budget, users all of it but an eighth.
    fn free_for(&self, all: usize, standing: OwnerTrust) -> usize {
        let (strangers, users) = (self.strangers.taken, self.users.taken);
        let left = all.saturating_sub(strangers + users);
        match standing {
            OwnerTrust::Stranger => left.min((all / 2).saturating_sub(strangers)),
            OwnerTrust::User => left.saturating_sub((all / 8).saturating_sub(strangers)),
        }
    }

    fn share(&mut self, standing: OwnerTrust) -> &mut BufferShare {
        match standing {
            OwnerTrust::Stranger => &mut self.strangers,
            OwnerTrust::User => &mut self.users,
        }
    }
}

impl BufferShare {
    /// The most that this owner may take now.
    fn room(&self, free: usize, listeners: usize, holder: &BufferOwner) -> usize {
        let held = self.by_listener.get(&holder.listener).copied().unwrap_or_default();
        // One listener holds at most three times what it leaves to the others.
        let of_listener =
            if listeners < 2 { free } else { (free.saturating_mul(3).saturating_sub(held) / 4).min(free) };
        let of_part = |(part, parts): &(BudgetPart, usize)| {
            let key = (Arc::clone(&holder.listener), part.clone());
            let held = self.by_part.get(&key).copied().unwrap_or_default();
            // With the amount taken now, `held` is at most 1/(`parts` - 1) of what is left.
            of_listener.saturating_sub(held.saturating_mul(parts - 1)) / parts
        };
        holder.parts.iter().map(of_part).fold(of_listener, usize::min)
    }

    /// Takes `amount` of what is free, if this owner may have it.
    fn take(&mut self, free: usize, listeners: usize, holder: &BufferOwner, amount: usize) -> bool {
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

    fn give_back(&mut self, holder: &BufferOwner, amount: usize) {
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

    fn at(standing: OwnerTrust, listener: &str, segments: Option<[u16; 4]>, user: &str) -> BufferOwner {
        let address =
            |[a, b, c, d]: [u16; 4]| ClientKey::of(std::net::IpAddr::from([a, b, c, d, 0, 0, 0, 1]));
        let user = (standing == OwnerTrust::User).then(|| user.into());
        BufferOwner::new(listener.into(), segments.map(address), user)
    }

    /// An owner in a /48 and of a user that `number` chooses.
    fn holder(standing: OwnerTrust, listener: &str, number: Option<u16>) -> BufferOwner {
        let user = number.map_or_else(String::new, |number| number.to_string());
        at(standing, listener, number.map(|number| [0x2001, 0xdb8, number, 0]), &user)
    }

    /// Takes pieces until there is no more room, and returns the bytes taken.
    fn fill(held: &mut HeldBuffers, listeners: usize, holder: &BufferOwner, piece: usize) -> usize {
        let budget = BufferBudget { bytes: ALL, listeners, patience: Duration::ZERO };
        (0..ALL).take_while(|_| held.take(budget, holder, piece)).count() * piece
    }

    #[tokio::test]
    async fn a_login_finds_room_whatever_the_others_hold() {
        let buffered = Arc::new(BufferLedger::default());
        for number in 0..2000 {
            for piece in [65_536, 4096, 256, 16, 1] {
                fill(&mut buffered.held(), 1, &holder(OwnerTrust::Stranger, "a", Some(number)), piece);
            }
        }
        let budget = BufferBudget { bytes: ALL, listeners: 1, patience: Duration::ZERO };
        assert!(buffered.held().strangers.taken <= ALL / 2);
        let mut room = buffered.room(budget, holder(OwnerTrust::Stranger, "a", Some(2000)));
        room.grow_to(UNCOUNTED).await.unwrap();
        assert_eq!(room.grow_to(2 * UNCOUNTED).await, Err(LimitExceeded::Buffered));
    }

    #[test]
    fn one_address_leaves_most_to_others() {
        let mut held = HeldBuffers::default();
        let taken = fill(&mut held, 1, &holder(OwnerTrust::Stranger, "a", Some(1)), 16_384);
        assert!((ALL / 16..=ALL / 10).contains(&taken), "{taken}");
    }

    #[test]
    fn wide_networks_and_users_leave_room_to_others() {
        let mut held = HeldBuffers::default();
        for low in 0..1000 {
            let of_network = at(OwnerTrust::Stranger, "a", Some([0x2001, 0xdb8, 1, low]), "");
            fill(&mut held, 1, &of_network, 256);
            let of_user = at(OwnerTrust::User, "a", Some([0x2001, 0xdb8, low, 0]), "one");
            fill(&mut held, 1, &of_user, 256);
        }
        let other = fill(&mut held, 1, &holder(OwnerTrust::Stranger, "a", Some(2)), 256);
        assert!(other >= ALL / 32, "beside a /48: {other}");
        let other = fill(&mut held, 1, &at(OwnerTrust::User, "a", None, "other"), 256);
        assert!(other >= ALL / 16, "beside a user: {other}");
    }

    #[test]
    fn one_users_requests_leave_wait_slots() {
        let mut held = HeldBuffers::default();
        for low in 0..1000 {
            held.begin_waiting(1, &at(OwnerTrust::User, "a", Some([0x2001, 0xdb8, low, 0]), "one"));
        }
        assert!((MAX_WAITING / 4..=MAX_WAITING / 2).contains(&held.waiting.taken), "{}", held.waiting.taken);
        assert!(held.begin_waiting(1, &holder(OwnerTrust::User, "a", Some(1))));
        assert!(!held.begin_waiting(1, &holder(OwnerTrust::Stranger, "a", Some(2))));
    }

    #[test]
    fn users_and_strangers_leave_room_to_each_other() {
        for first in [OwnerTrust::User, OwnerTrust::Stranger] {
            let mut held = HeldBuffers::default();
            let second = if first == OwnerTrust::User { OwnerTrust::Stranger } else { OwnerTrust::User };
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
        for standing in [OwnerTrust::User, OwnerTrust::Stranger] {
            let mut held = HeldBuffers::default();
            for last in 0..3000 {
                fill(&mut held, 2, &holder(standing, "public", Some(last)), 4096);
            }
            fill(&mut held, 2, &holder(standing, "public", None), 4096);
            let other = fill(&mut held, 2, &holder(standing, "listen", Some(1)), 4096);
            assert!(other >= ALL / 64, "{standing:?}: {other}");
        }
    }

    #[tokio::test]
    async fn only_authenticated_clients_wait_for_room() {
        let (buffered, budget) = (
            Arc::new(BufferLedger::default()),
            BufferBudget { bytes: ALL, listeners: 1, patience: Duration::from_mins(1) },
        );
        let user = || buffered.room(budget, at(OwnerTrust::User, "a", None, "one"));
        let (mut first, mut second) = (user(), user());
        first.grow_to(ALL / 8 * 3).await.unwrap();
        let (waited, ()) = tokio::join!(second.grow_to(ALL / 4), async {
            assert_eq!(buffered.held().waiting.taken, 1);
            first.shrink_to(100);
        });
        waited.unwrap();
        let mut stranger = buffered.room(budget, holder(OwnerTrust::Stranger, "a", None));
        assert_eq!(stranger.grow_to(ALL).await, Err(LimitExceeded::Buffered));
        drop((first, second, stranger));
        let held = buffered.held();
        assert_eq!((held.users.taken, held.strangers.taken, held.waiting.taken), (0, 0, 0));
        assert!(held.users.by_listener.is_empty() && held.users.by_part.is_empty());
        assert!(held.waiting.by_part.is_empty());
    }
}
