//! The sockets in use: which listener each belongs to, and what it was bound for.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::{BindError, bind, bind_with, prepare};
use crate::config::settings::{FIRST, ListenerSettings};

/// A socket, and the name of the listener whose rules hold for whoever comes by it.
#[derive(Clone)]
pub struct ListeningSocket {
    pub listener: Arc<str>,
    pub socket: Arc<TcpListener>,
}

/// The sockets in use, and the settings that they were bound for.
pub struct ListenerSet {
    /// those of `[listen]` first
    pub sockets: Arc<[ListeningSocket]>,
    places: Vec<ListenerSockets>,
}

/// What one listener has.
#[derive(Clone)]
struct ListenerSockets {
    bound_for: BoundFor,
    sockets: Vec<Arc<TcpListener>>,
}

/// What sockets were bound for, as it travels to a successor.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct BoundFor {
    /// as the settings say it
    address: String,
    port: u16,
    /// by systemd, which has settings of its own
    given: bool,
    /// of the listener
    #[serde(default = "first")]
    name: String,
}

fn first() -> String {
    FIRST.to_owned()
}

/// Why one of the listeners has no socket.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct UnboundListener {
    /// its place among the listeners of the settings
    pub number: usize,
    pub error: BindError,
}

impl ListenerSet {
    /// Everything that the settings name.
    pub fn open(listeners: &[ListenerSettings]) -> Result<Self, UnboundListener> {
        let none = Self::of(Vec::new());
        Ok(none.moved_to(listeners)?.unwrap_or(none))
    }

    /// Sockets that systemd has bound, in place of that of `[listen]`.
    pub fn given(sockets: Vec<TcpListener>, first: &ListenerSettings) -> io::Result<Self> {
        for socket in &sockets {
            prepare(&SockRef::from(socket))?;
        }
        let bound_for = BoundFor { given: true, ..BoundFor::settings(first) };
        Ok(Self::inherited(sockets, bound_for, Vec::new()))
    }

    /// Sockets of a process that this one takes the place of: those of `[listen]`, and one for each other listener.
    pub fn inherited(
        sockets: Vec<TcpListener>,
        bound_for: BoundFor,
        others: Vec<(TcpListener, BoundFor)>,
    ) -> Self {
        let first = ListenerSockets { bound_for, sockets: sockets.into_iter().map(Arc::new).collect() };
        let others = others
            .into_iter()
            .map(|(socket, bound_for)| ListenerSockets { bound_for, sockets: vec![Arc::new(socket)] });
        Self::of(std::iter::once(first).chain(others).collect())
    }

    fn of(places: Vec<ListenerSockets>) -> Self {
        let sockets = places.iter().flat_map(|place| {
            let name: Arc<str> = Arc::from(place.bound_for.name.as_str());
            let of_place =
                move |socket| ListeningSocket { listener: Arc::clone(&name), socket: Arc::clone(socket) };
            place.sockets.iter().map(of_place)
        });
        Self { sockets: sockets.collect(), places }
    }

    /// What `[listen]` was bound for, and its sockets.
    pub fn first(&self) -> (BoundFor, Vec<Arc<TcpListener>>) {
        let first = self.places.first().cloned();
        first.map(|place| (place.bound_for, place.sockets)).unwrap_or_default()
    }

    /// The same of every other listener, one socket each.
    pub fn others(&self) -> impl Iterator<Item = (&BoundFor, &Arc<TcpListener>)> {
        let others = self.places.iter().skip(1);
        others.filter_map(|place| Some((&place.bound_for, place.sockets.first()?)))
    }

    /// To the log.
    pub fn say_where(&self) -> io::Result<()> {
        for ListeningSocket { listener, socket } in &*self.sockets {
            match (&**listener, socket.local_addr()?) {
                (FIRST, address) => tracing::info!("listening on {address}"),
                (name, address) => tracing::info!("listener '{name}' on {address}"),
            }
        }
        Ok(())
    }

    /// What to listen on by other settings; `None` where that is the same. A listener that only has another name keeps
    /// its socket, and what systemd has bound stays that of `[listen]`.
    ///
    /// An address may overlap with another one in use (`::` and an IPv4 address, both on the same port), which the kernel
    /// allows to sockets of one user that ask for it. They ask no longer than this call takes: else any process of the
    /// user could take connections beside them.
    pub fn moved_to(&self, listeners: &[ListenerSettings]) -> Result<Option<Self>, UnboundListener> {
        let mut next = Vec::new();
        for (number, listener) in listeners.iter().enumerate() {
            let place = match self.known(listener, listeners) {
                Some(known) => known,
                None => self.opened(listener, &next).map_err(|error| UnboundListener { number, error })?,
            };
            next.push(place);
        }
        let is_same = next.len() == self.places.len()
            && next.iter().zip(&self.places).all(|(next, place)| next.bound_for == place.bound_for);
        Ok((!is_same).then(|| Self::of(next)))
    }

    /// Sockets that are bound already: its own, or those of a listener that is called otherwise now.
    fn known(&self, listener: &ListenerSettings, all: &[ListenerSettings]) -> Option<ListenerSockets> {
        let wanted = BoundFor::settings(listener);
        let is_given = |place: &ListenerSockets| place.bound_for.given && wanted.name == FIRST;
        let is_free = |place: &ListenerSockets| !all.iter().any(|other| *other.name == *place.bound_for.name);
        let same = |place: &&ListenerSockets| place.bound_for == wanted || is_given(place);
        let renamed =
            |place: &&ListenerSockets| place.bound_for.is_at_the_place_of(&wanted) && is_free(place);
        let place = self.places.iter().find(same).or_else(|| self.places.iter().find(renamed))?;
        let bound_for = BoundFor { name: wanted.name.clone(), ..place.bound_for.clone() };
        Some(ListenerSockets { bound_for, ..place.clone() })
    }

    fn opened(
        &self,
        listener: &ListenerSettings,
        beside: &[ListenerSockets],
    ) -> Result<ListenerSockets, BindError> {
        let bound_for = BoundFor::settings(listener);
        let place = |socket| ListenerSockets { bound_for, sockets: vec![Arc::new(socket)] };
        match bind(&listener.listen) {
            Err(BindError::Taken(_)) => (),
            bound => return bound.map(place),
        }
        let ours = self.places.iter().chain(beside).flat_map(|place| &place.sockets);
        let closed: Vec<_> = ours.filter(|it| !SockRef::from(&***it).reuse_port().unwrap_or(true)).collect();
        let share = |shared| {
            for socket in &closed {
                let _ = SockRef::from(&***socket).set_reuse_port(shared);
            }
        };
        share(true);
        let bound = bind_with(&listener.listen, true);
        share(false);
        let socket = bound?;
        let _ = SockRef::from(&socket).set_reuse_port(false);
        let address = |socket: &TcpListener| socket.local_addr().ok();
        let twin = beside.iter().flat_map(|place| &place.sockets).find(|it| address(it) == address(&socket));
        match twin.and_then(|twin| address(twin)) {
            Some(address) => Err(BindError::Twice(address)),
            None => Ok(place(socket)),
        }
    }
}

impl BoundFor {
    fn settings(listener: &ListenerSettings) -> Self {
        Self {
            address: listener.listen.address.to_string(),
            port: listener.listen.port,
            given: false,
            name: listener.name.to_string(),
        }
    }

    fn is_at_the_place_of(&self, other: &Self) -> bool {
        self.address == other.address && self.port == other.port && !self.given
    }
}
