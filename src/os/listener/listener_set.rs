//! The open sockets, the listener of each, and the settings that each was bound for.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::{BindError, bind, bind_with, prepare};
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::settings::{FIRST, ListenerSettings};

/// A socket, and the name of the listener whose rules apply to its connections.
#[derive(Clone)]
pub struct ListeningSocket {
    pub listener: Arc<str>,
    pub socket: Arc<TcpListener>,
}

/// The open sockets, and the settings that they were bound for.
pub struct ListenerSet {
    /// those of `[listen]` first
    pub sockets: Arc<[ListeningSocket]>,
    places: Vec<ListenerSockets>,
}

/// The listeners of the settings, and how to open them.
#[derive(Clone, Copy)]
pub struct ListenerPlan<'a> {
    listeners: &'a [ListenerSettings],
    /// The other process has the ports of the `[[listener]]` tables: those listeners are left out.
    is_beside_another: bool,
}

impl<'a> ListenerPlan<'a> {
    pub fn new(config: &'a Config) -> Self {
        Self { listeners: &config.settings.listeners, is_beside_another: config.is_beside_another() }
    }
}

#[derive(Clone)]
struct ListenerSockets {
    bound_for: BindKey,
    sockets: Vec<Arc<TcpListener>>,
}

/// The settings that sockets were bound for, in the form that a successor gets.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct BindKey {
    /// as in the settings
    address: String,
    port: u16,
    /// by systemd, which has its own settings for it
    given: bool,
    /// of the listener
    #[serde(default = "first")]
    name: String,
}

fn first() -> String {
    FIRST.to_owned()
}

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct UnboundListener {
    /// its index among the listeners of the settings
    pub number: usize,
    pub error: BindError,
}

impl UnboundListener {
    pub fn problem(&self, config: &Config) -> Diagnostic {
        config.listener_problem(self.number, self.error.key(), self.error.to_string())
    }
}

impl ListenerSet {
    /// Binds all listeners of the settings.
    pub fn open(plan: ListenerPlan<'_>) -> Result<Self, UnboundListener> {
        let none = Self::from_sockets(Vec::new());
        Ok(none.rebind(plan)?.unwrap_or(none))
    }

    /// Uses sockets that systemd has bound for `[listen]`.
    pub fn given(sockets: Vec<TcpListener>, first: &ListenerSettings) -> io::Result<Self> {
        for socket in &sockets {
            prepare(&SockRef::from(socket))?;
        }
        let bound_for = BindKey { given: true, ..BindKey::settings(first) };
        Ok(Self::inherited(sockets, bound_for, Vec::new()))
    }

    /// Uses the sockets of the predecessor: those of `[listen]`, and one for each other listener.
    pub fn inherited(
        sockets: Vec<TcpListener>,
        bound_for: BindKey,
        others: Vec<(TcpListener, BindKey)>,
    ) -> Self {
        let first = ListenerSockets { bound_for, sockets: sockets.into_iter().map(Arc::new).collect() };
        let others = others
            .into_iter()
            .map(|(socket, bound_for)| ListenerSockets { bound_for, sockets: vec![Arc::new(socket)] });
        Self::from_sockets(std::iter::once(first).chain(others).collect())
    }

    fn from_sockets(places: Vec<ListenerSockets>) -> Self {
        let sockets = places.iter().flat_map(|place| {
            let name: Arc<str> = Arc::from(place.bound_for.name.as_str());
            let of_place =
                move |socket| ListeningSocket { listener: Arc::clone(&name), socket: Arc::clone(socket) };
            place.sockets.iter().map(of_place)
        });
        Self { sockets: sockets.collect(), places }
    }

    /// The sockets of `[listen]`, and the settings that they were bound for.
    pub fn first(&self) -> (BindKey, Vec<Arc<TcpListener>>) {
        let first = self.places.first().cloned();
        first.map(|place| (place.bound_for, place.sockets)).unwrap_or_default()
    }

    /// The same of every other listener, one socket each.
    pub fn others(&self) -> impl Iterator<Item = (&BindKey, &Arc<TcpListener>)> {
        let others = self.places.iter().skip(1);
        others.filter_map(|place| Some((&place.bound_for, place.sockets.first()?)))
    }

    pub fn log_addresses(&self) -> io::Result<()> {
        for ListeningSocket { listener, socket } in &*self.sockets {
            match (&**listener, socket.local_addr()?) {
                (FIRST, address) => tracing::info!("listening on {address}"),
                (name, address) => tracing::info!("listener '{name}' on {address}"),
            }
        }
        Ok(())
    }

    /// The sockets for other settings; `None` if nothing changes. A listener with a new name keeps its socket, and a
    /// socket from systemd stays that of `[listen]`.
    ///
    /// An address may overlap with another one in use, such as `::` and an IPv4 address on the same port. The kernel
    /// allows this if the sockets of one user set `SO_REUSEPORT`. They have the option only during this call;
    /// otherwise any process of the user could accept connections beside them.
    pub fn rebind(&self, plan: ListenerPlan<'_>) -> Result<Option<Self>, UnboundListener> {
        let mut next = Vec::new();
        for (number, listener) in plan.listeners.iter().enumerate() {
            if let Some(known) = self.known(listener, plan.listeners) {
                next.push(known);
                continue;
            }
            match self.bind_missing(listener, &next) {
                Ok(place) => next.push(place),
                Err(error @ BindError::Taken(_)) if plan.is_beside_another && number > 0 => {
                    tracing::warn!("listener '{}' is left out of this trial: {error}", listener.name);
                }
                Err(error) => return Err(UnboundListener { number, error }),
            }
        }
        let is_same = next.len() == self.places.len()
            && next.iter().zip(&self.places).all(|(next, place)| next.bound_for == place.bound_for);
        Ok((!is_same).then(|| Self::from_sockets(next)))
    }

    /// Sockets that are bound already, for this listener or for one that has another name now.
    fn known(&self, listener: &ListenerSettings, all: &[ListenerSettings]) -> Option<ListenerSockets> {
        let wanted = BindKey::settings(listener);
        let is_given = |place: &ListenerSockets| place.bound_for.given && wanted.name == FIRST;
        let is_free = |place: &ListenerSockets| !all.iter().any(|other| *other.name == *place.bound_for.name);
        let same = |place: &&ListenerSockets| place.bound_for == wanted || is_given(place);
        let renamed = |place: &&ListenerSockets| place.bound_for.has_address_of(&wanted) && is_free(place);
        let place = self.places.iter().find(same).or_else(|| self.places.iter().find(renamed))?;
        let bound_for = BindKey { name: wanted.name.clone(), ..place.bound_for.clone() };
        Some(ListenerSockets { bound_for, ..place.clone() })
    }

    fn bind_missing(
        &self,
        listener: &ListenerSettings,
        beside: &[ListenerSockets],
    ) -> Result<ListenerSockets, BindError> {
        let bound_for = BindKey::settings(listener);
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

impl BindKey {
    fn settings(listener: &ListenerSettings) -> Self {
        Self {
            address: listener.listen.address.to_string(),
            port: listener.listen.port,
            given: false,
            name: listener.name.to_string(),
        }
    }

    fn has_address_of(&self, other: &Self) -> bool {
        self.address == other.address && self.port == other.port && !self.given
    }
}
