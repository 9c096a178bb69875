//! The values that describe a call to a local backend.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// One hasher for all threads, so that they agree on groups and keys. Its keys are random: a client cannot choose
/// colliding values.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The client whose turn a call takes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientGroup {
    id: u64,
    /// whether the client has proved who it is
    pub(super) has_login: bool,
}

impl ClientGroup {
    /// A client with a login: the credential and the address make it up.
    pub fn new(identity: impl Hash) -> Self {
        Self { id: HASHER.hash_one(identity), has_login: true }
    }

    /// A client without a login. All of these together have the turns of one client, because addresses cost nothing.
    pub fn without_login(address: impl Hash) -> Self {
        Self { id: HASHER.hash_one(address), has_login: false }
    }
}

/// A route template. Calls of one template cost about the same unless a parameter decides otherwise.
#[derive(Clone, Debug)]
pub struct CallTemplate {
    /// shown to administrators
    pub name: Arc<str>,
    pub(super) id: u64,
}

impl CallTemplate {
    /// `name` is shown to administrators, so it holds no parameter: `GET /nodes/{node}/storage/{storage}/content`.
    pub fn new(name: Arc<str>) -> Self {
        let id = HASHER.hash_one(&*name);
        Self { name, id }
    }
}

/// The connection of a client, if several of its requests may wait at once.
pub type ConnectionId = u64;

/// One call, before it is sent.
#[derive(Clone, Debug)]
pub struct ScheduledCall {
    /// the client whose turn the call takes
    pub group: ClientGroup,
    /// decides the expected cost, with parameters of the call
    pub template: CallTemplate,
    /// of the costs of the template
    pub(super) template_key: u64,
    /// of the costs with these parameters
    pub(super) key: u64,
    /// the connection that it came on
    pub connection: ConnectionId,
    /// whether the call may change something: it keeps its place among the calls of its connection
    pub is_write: bool,
}

impl ScheduledCall {
    /// `deciding` holds the parameters that decide what a call of this template costs: node, storage, guest, … Clients
    /// without a login have costs of their own: a daemon takes seconds to refuse a credential.
    pub fn new(
        group: ClientGroup,
        template: CallTemplate,
        deciding: impl Hash,
        connection: ConnectionId,
        is_write: bool,
    ) -> Self {
        let template_key = HASHER.hash_one((template.id, group.has_login));
        let key = HASHER.hash_one((template_key, deciding));
        Self { group, template, template_key, key, connection, is_write }
    }
}

/// The workers of a backend, and the bounds of its queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SchedulerLimits {
    /// calls at the same time; 0 for no limit
    pub workers: usize,
    /// waiting calls of all clients
    pub queue: usize,
    /// waiting calls of one client
    pub queue_per_client: usize,
    /// a call that runs longer is slow
    pub slow_call: Duration,
    /// the longest wait
    pub queue_timeout: Duration,
}

impl SchedulerLimits {
    /// Calls without a login that may wait: half of all, so that other clients always find a place.
    pub(super) fn queue_without_login(&self) -> usize {
        (self.queue / 2).max(1)
    }

    /// Workers that slow calls may hold: all but one, so that a quick call soon finds a worker.
    pub(super) fn slow_workers(&self) -> usize {
        self.workers.saturating_sub(1).max(1)
    }
}

/// The number of a call that waits or runs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket {
    pub(super) number: u64,
    pub(super) group: ClientGroup,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallOutcome {
    /// the head of the answer has come
    Answered,
    /// the call failed, or the client left: its time says only how long a worker was busy at least
    Abandoned,
}

/// Why a call may not wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueueLimit {
    /// as many calls wait as may in all
    Queue,
    /// as many calls of this client wait as may
    Client,
}
