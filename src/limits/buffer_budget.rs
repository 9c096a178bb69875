//! Memory for request bodies that nodegate buffers as a whole. All worker threads share one budget. It is divided
//! between unauthenticated clients and users, between listeners, between addresses and networks, and between users.
//!
//! The first bytes of each body are not counted, because the memory for connections holds them. So a login finds room
//! even if the budget is used up. Beyond them an owner may take a fraction of what is still free, not of the whole.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::LimitExceeded;
use super::shares::subtract;
use crate::limits::failure_table::ClientKey;

/// The first bytes of each body, which are not counted.
pub const UNCOUNTED_BYTES: usize = 4 << 10;
/// Limit of users' requests that wait at the same time.
const MAX_WAITING: usize = 256;
/// Divisors of the bytes that are free for a listener: an unauthenticated address gets at most 1/5, a /56 1/3, a /48
/// 1/2.
const UNAUTHENTICATED_PARTS: [usize; 3] = [5, 3, 2];
/// The same for users, and for one user at all addresses.
const USER_PARTS: [usize; 3] = [2, 2, 2];
const ONE_USER_PARTS: usize = 2;

/// Whether the client has sent a good credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OwnerTrust {
    Unauthenticated,
    User,
}

/// The budget by the current settings.
#[derive(Clone, Copy, Debug)]
pub struct BufferBudget {
    pub bytes: usize,
    /// with one listener nothing is divided between listeners
    pub listeners: usize,
    /// how long a user waits for room; unauthenticated clients do not wait
    pub timeout: Duration,
}

/// The client that a body is buffered for.
pub struct BufferOwner {
    trust: OwnerTrust,
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
    /// `user` is a verified name; without one the owner is unauthenticated. `source` is `None` for an address that may
    /// stand for many clients.
    pub fn new(listener: Arc<str>, source: Option<ClientKey>, user: Option<Arc<str>>) -> Self {
        let (trust, parts) = match user {
            None => (OwnerTrust::Unauthenticated, UNAUTHENTICATED_PARTS),
            Some(_) => (OwnerTrust::User, USER_PARTS),
        };
        let levels = source.into_iter().flat_map(ClientKey::levels).zip(parts).enumerate();
        let networks =
            levels.filter_map(|(level, (source, part))| Some((BudgetPart::Network(level, source?), part)));
        let user = user.map(|user| (BudgetPart::User(user), ONE_USER_PARTS));
        Self { trust, listener, parts: networks.chain(user).collect() }
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
    unauthenticated: BufferShare,
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
    owner: BufferOwner,
    /// only the counted bytes
    bytes: usize,
}

impl BufferLedger {
    /// A permit for the bytes that are not counted.
    pub fn empty_permit(self: &Arc<Self>, budget: BufferBudget, owner: BufferOwner) -> BufferPermit {
        BufferPermit { buffered: Arc::clone(self), budget, owner, bytes: 0 }
    }

    /// Takes more bytes. A user waits for them for at most `BufferBudget::timeout`.
    async fn take(
        &self,
        budget: BufferBudget,
        owner: &BufferOwner,
        bytes: usize,
    ) -> Result<(), LimitExceeded> {
        let until = Instant::now() + budget.timeout;
        let mut waiting = None;
        loop {
            let released = self.released.notified();
            {
                let mut held = self.held();
                if held.take(budget, owner, bytes) {
                    return Ok(());
                }
                // Bytes that are given back from here on wake this request.
                if waiting.is_none() {
                    if !held.begin_waiting(budget.listeners, owner) {
                        return Err(LimitExceeded::Buffered);
                    }
                    waiting = Some(BufferWaiter { buffered: self, owner });
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
    /// Makes room for a body of `bytes`. A user waits for that for at most `BufferBudget::timeout`.
    ///
    /// # Errors
    /// [`LimitExceeded::Buffered`] if there is no room.
    pub async fn grow_to(&mut self, bytes: usize) -> Result<(), LimitExceeded> {
        let more = bytes.saturating_sub(UNCOUNTED_BYTES).saturating_sub(self.bytes);
        if more > 0 {
            self.buffered.take(self.budget, &self.owner, more).await?;
            self.bytes += more;
        }
        Ok(())
    }

    /// Gives back the room that the body did not need.
    pub fn shrink_to(&mut self, bytes: usize) {
        let more = self.bytes.saturating_sub(bytes.saturating_sub(UNCOUNTED_BYTES));
        self.bytes -= more;
        self.give_back(more);
    }

    fn give_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut held = self.buffered.held();
        held.share(self.owner.trust).give_back(&self.owner, bytes);
        let is_awaited = held.waiting.taken > 0;
        drop(held);
        if is_awaited {
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
    owner: &'b BufferOwner,
}

impl Drop for BufferWaiter<'_> {
    fn drop(&mut self) {
        self.buffered.held().waiting.give_back(self.owner, 1);
    }
}

impl HeldBuffers {
    fn take(&mut self, budget: BufferBudget, owner: &BufferOwner, bytes: usize) -> bool {
        let free = self.free_for(budget.bytes, owner.trust);
        self.share(owner.trust).take(free, budget.listeners, owner, bytes)
    }

    /// Registers a waiting request, if this owner may wait.
    fn begin_waiting(&mut self, listeners: usize, owner: &BufferOwner) -> bool {
        let free = MAX_WAITING - self.waiting.taken;
        owner.trust == OwnerTrust::User && self.waiting.take(free, listeners, owner, 1)
    }

    /// Unauthenticated clients get at most half of the budget, users all but an eighth of it.
    fn free_for(&self, all: usize, trust: OwnerTrust) -> usize {
        let (unauthenticated, users) = (self.unauthenticated.taken, self.users.taken);
        let left = all.saturating_sub(unauthenticated + users);
        match trust {
            OwnerTrust::Unauthenticated => left.min((all / 2).saturating_sub(unauthenticated)),
            OwnerTrust::User => left.saturating_sub((all / 8).saturating_sub(unauthenticated)),
        }
    }

    fn share(&mut self, trust: OwnerTrust) -> &mut BufferShare {
        match trust {
            OwnerTrust::Unauthenticated => &mut self.unauthenticated,
            OwnerTrust::User => &mut self.users,
        }
    }
}

impl BufferShare {
    /// The most that this owner may take now.
    fn room(&self, free: usize, listeners: usize, owner: &BufferOwner) -> usize {
        let held = self.by_listener.get(&owner.listener).copied().unwrap_or_default();
        // One listener holds at most three times what it leaves to the others.
        let of_listener =
            if listeners < 2 { free } else { (free.saturating_mul(3).saturating_sub(held) / 4).min(free) };
        let of_part = |(part, parts): &(BudgetPart, usize)| {
            let key = (Arc::clone(&owner.listener), part.clone());
            let held = self.by_part.get(&key).copied().unwrap_or_default();
            // With the amount taken now, `held` is at most 1/(`parts` - 1) of what is left.
            of_listener.saturating_sub(held.saturating_mul(parts - 1)) / parts
        };
        owner.parts.iter().map(of_part).fold(of_listener, usize::min)
    }

    /// Takes `amount` of what is free, if this owner may have it.
    fn take(&mut self, free: usize, listeners: usize, owner: &BufferOwner, amount: usize) -> bool {
        if self.room(free, listeners, owner) < amount {
            return false;
        }
        self.taken += amount;
        *self.by_listener.entry(Arc::clone(&owner.listener)).or_default() += amount;
        for (part, _) in &owner.parts {
            *self.by_part.entry((Arc::clone(&owner.listener), part.clone())).or_default() += amount;
        }
        true
    }

    fn give_back(&mut self, owner: &BufferOwner, amount: usize) {
        self.taken -= amount;
        subtract(&mut self.by_listener, &owner.listener, amount);
        for (part, _) in &owner.parts {
            subtract(&mut self.by_part, &(Arc::clone(&owner.listener), part.clone()), amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = 1 << 20;

    fn at(trust: OwnerTrust, listener: &str, segments: Option<[u16; 4]>, user: &str) -> BufferOwner {
        let address = |[a, b, c, d]: [u16; 4]| {
            ClientKey::from_address(std::net::IpAddr::from([a, b, c, d, 0, 0, 0, 1]))
        };
        let user = (trust == OwnerTrust::User).then(|| user.into());
        BufferOwner::new(listener.into(), segments.map(address), user)
    }

    /// An owner in a /48 and of a user that `number` chooses.
    fn owner(trust: OwnerTrust, listener: &str, number: Option<u16>) -> BufferOwner {
        let user = number.map_or_else(String::new, |number| number.to_string());
        at(trust, listener, number.map(|number| [0x2001, 0xdb8, number, 0]), &user)
    }

    /// Takes pieces until there is no more room, and returns the bytes taken.
    fn fill(held: &mut HeldBuffers, listeners: usize, owner: &BufferOwner, piece: usize) -> usize {
        let budget = BufferBudget { bytes: ALL, listeners, timeout: Duration::ZERO };
        (0..ALL).take_while(|_| held.take(budget, owner, piece)).count() * piece
    }

    #[tokio::test]
    async fn other_bodies_leave_room_for_a_login() {
        let buffered = Arc::new(BufferLedger::default());
        for number in 0..2000 {
            for piece in [65_536, 4096, 256, 16, 1] {
                fill(&mut buffered.held(), 1, &owner(OwnerTrust::Unauthenticated, "a", Some(number)), piece);
            }
        }
        let budget = BufferBudget { bytes: ALL, listeners: 1, timeout: Duration::ZERO };
        assert!(buffered.held().unauthenticated.taken <= ALL / 2);
        let mut room = buffered.empty_permit(budget, owner(OwnerTrust::Unauthenticated, "a", Some(2000)));
        room.grow_to(UNCOUNTED_BYTES).await.unwrap();
        assert_eq!(room.grow_to(2 * UNCOUNTED_BYTES).await, Err(LimitExceeded::Buffered));
    }

    #[test]
    fn one_address_leaves_most_to_others() {
        let mut held = HeldBuffers::default();
        let taken = fill(&mut held, 1, &owner(OwnerTrust::Unauthenticated, "a", Some(1)), 16_384);
        assert!((ALL / 16..=ALL / 10).contains(&taken), "{taken}");
    }

    #[test]
    fn wide_networks_and_users_leave_room_to_others() {
        let mut held = HeldBuffers::default();
        for low in 0..1000 {
            let of_network = at(OwnerTrust::Unauthenticated, "a", Some([0x2001, 0xdb8, 1, low]), "");
            fill(&mut held, 1, &of_network, 256);
            let of_user = at(OwnerTrust::User, "a", Some([0x2001, 0xdb8, low, 0]), "one");
            fill(&mut held, 1, &of_user, 256);
        }
        let other = fill(&mut held, 1, &owner(OwnerTrust::Unauthenticated, "a", Some(2)), 256);
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
        assert!(held.begin_waiting(1, &owner(OwnerTrust::User, "a", Some(1))));
        assert!(!held.begin_waiting(1, &owner(OwnerTrust::Unauthenticated, "a", Some(2))));
    }

    #[test]
    fn users_and_others_leave_room_to_each_other() {
        for first in [OwnerTrust::User, OwnerTrust::Unauthenticated] {
            let mut held = HeldBuffers::default();
            let second =
                if first == OwnerTrust::User { OwnerTrust::Unauthenticated } else { OwnerTrust::User };
            let taken = [first, second].map(|it| {
                (0..9)
                    .map(|user| fill(&mut held, 1, &at(it, "a", None, &user.to_string()), 4096))
                    .sum::<usize>()
            });
            assert!(taken.into_iter().all(|bytes| bytes >= ALL / 8 - 8192), "{taken:?}");
            assert!(held.users.taken + held.unauthenticated.taken <= ALL);
        }
    }

    #[test]
    fn a_listener_leaves_room_to_the_others() {
        for trust in [OwnerTrust::User, OwnerTrust::Unauthenticated] {
            let mut held = HeldBuffers::default();
            for last in 0..3000 {
                fill(&mut held, 2, &owner(trust, "public", Some(last)), 4096);
            }
            fill(&mut held, 2, &owner(trust, "public", None), 4096);
            let other = fill(&mut held, 2, &owner(trust, "listen", Some(1)), 4096);
            assert!(other >= ALL / 64, "{trust:?}: {other}");
        }
    }

    #[tokio::test]
    async fn only_authenticated_clients_wait_for_room() {
        let (buffered, budget) = (
            Arc::new(BufferLedger::default()),
            BufferBudget { bytes: ALL, listeners: 1, timeout: Duration::from_mins(1) },
        );
        let user = || buffered.empty_permit(budget, at(OwnerTrust::User, "a", None, "one"));
        let (mut first, mut second) = (user(), user());
        first.grow_to(ALL / 8 * 3).await.unwrap();
        let (waited, ()) = tokio::join!(second.grow_to(ALL / 4), async {
            assert_eq!(buffered.held().waiting.taken, 1);
            first.shrink_to(100);
        });
        waited.unwrap();
        let mut other = buffered.empty_permit(budget, owner(OwnerTrust::Unauthenticated, "a", None));
        assert_eq!(other.grow_to(ALL).await, Err(LimitExceeded::Buffered));
        drop((first, second, other));
        let held = buffered.held();
        assert_eq!((held.users.taken, held.unauthenticated.taken, held.waiting.taken), (0, 0, 0));
        assert!(held.users.by_listener.is_empty() && held.users.by_part.is_empty());
        assert!(held.waiting.by_part.is_empty());
    }
}
