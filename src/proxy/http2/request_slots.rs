//! Requests of a connection that run at once. The others wait, and hold nothing but their heads.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::sync::Semaphore;

use super::MAX_STREAMS;

/// Running requests before a login: their responses hold no more than those of as many connections of HTTP/1.1.
const SLOTS_BEFORE_LOGIN: usize = 8;
/// After a login. A slot holds at most two pieces of a response, and the head of the daemon's.
const SLOTS_AFTER_LOGIN: usize = 32;
/// Bytes of the heads that wait.
const MAX_WAITING_BYTES: usize = 128 << 10;
/// The size of a field besides its text (RFC 9113 section 6.5.2).
const FIELD_BYTES: usize = 32;

pub(super) struct RequestSlots {
    free: Semaphore,
    count: Cell<usize>,
    waiting_bytes: Cell<usize>,
}

impl RequestSlots {
    /// A trusted proxy sends the requests of many clients, so each of its streams has a slot.
    pub(super) fn new(is_trusted_proxy: bool) -> Rc<Self> {
        let count = if is_trusted_proxy { MAX_STREAMS } else { SLOTS_BEFORE_LOGIN };
        Rc::new(Self { free: Semaphore::new(count), count: Cell::new(count), waiting_bytes: Cell::new(0) })
    }

    /// Adds the slots of a client that has logged in.
    pub(super) fn widen(&self) {
        let before = self.count.get();
        let count = before.max(SLOTS_AFTER_LOGIN);
        self.free.add_permits(count - before);
        self.count.set(count);
    }

    /// The place of a new request, with a slot if one is free. `None` if too many bytes wait already.
    ///
    /// The slot is taken at once: the connection may accept many requests before the task of the first one runs.
    pub(super) fn enter(self: &Rc<Self>, request: &Request<RecvStream>) -> Option<WaitingRequest> {
        if let Ok(permit) = self.free.try_acquire() {
            permit.forget();
            let slot = Some(RequestSlot(Rc::clone(self)));
            return Some(WaitingRequest { slots: Rc::clone(self), bytes: 0, slot });
        }
        let bytes = head_bytes(request);
        let waiting = self.waiting_bytes.get() + bytes;
        if waiting > MAX_WAITING_BYTES {
            return None;
        }
        self.waiting_bytes.set(waiting);
        Some(WaitingRequest { slots: Rc::clone(self), bytes, slot: None })
    }
}

fn head_bytes(request: &Request<RecvStream>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter();
    target + fields.map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES).sum::<usize>()
}

/// A request that has not begun.
pub(super) struct WaitingRequest {
    slots: Rc<RequestSlots>,
    /// of its head, while it has no slot
    bytes: usize,
    slot: Option<RequestSlot>,
}

impl WaitingRequest {
    /// Waits for a slot. `None` if the client resets the stream first.
    pub(super) async fn slot(mut self, respond: &mut SendResponse<Bytes>) -> Option<RequestSlot> {
        if let Some(slot) = self.slot.take() {
            return Some(slot);
        }
        tokio::select! {
            biased;
            permit = self.slots.free.acquire() => permit.ok()?.forget(),
            _ = poll_fn(|context| respond.poll_reset(context)) => return None,
        }
        Some(RequestSlot(Rc::clone(&self.slots)))
    }
}

impl Drop for WaitingRequest {
    fn drop(&mut self) {
        self.slots.waiting_bytes.set(self.slots.waiting_bytes.get().saturating_sub(self.bytes));
    }
}

/// Guard of a slot.
pub(super) struct RequestSlot(Rc<RequestSlots>);

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.0.free.add_permits(1);
    }
}
