//! Step 1: the listening sockets, from `LISTEN_IP` and the port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, ToSocketAddrs as _};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::settings::{Listen, ListenAddress};

/// Bytes that the kernel may hold for a client beyond what is under way.
const UNSENT: u32 = 128 << 10;
/// The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why nothing could be bound; each message says what to look at.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{0} is not an address of this machine")]
    NotHere(SocketAddr),
    #[error("port {} on {} is taken by another process", .0.port(), .0.ip())]
    Taken(SocketAddr),
    #[error("no permission to listen on {0}; ports below 1024 need root or CAP_NET_BIND_SERVICE")]
    Forbidden(SocketAddr),
    #[error("{0} is link-local: write the interface behind it, such as {0}%eth0")]
    ZoneMissing(Ipv6Addr),
    #[error("no network interface '{0}' on this machine")]
    NoSuchZone(String),
    #[error("the name '{name}' has no address: {source}")]
    NoSuchName { name: String, source: io::Error },
    #[error("cannot listen on {address}: {source}")]
    Other { address: SocketAddr, source: io::Error },
}

/// The sockets in use, and the settings that they were bound for.
pub struct Listening {
    pub sockets: Arc<[TcpListener]>,
    bound_for: BoundFor,
}

/// What sockets were bound for, as it travels to a successor.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct BoundFor {
    /// as `listen.address` says it
    address: String,
    port: u16,
    /// by systemd, which has settings of its own
    given: bool,
}

impl Listening {
    pub fn open(listen: &Listen) -> Result<Self, BindError> {
        Ok(Self { sockets: Arc::from([bind(listen)?]), bound_for: BoundFor::settings(listen) })
    }

    /// Sockets that systemd has bound, in place of those of the settings.
    pub fn given(sockets: Vec<TcpListener>, listen: &Listen) -> io::Result<Self> {
        for socket in &sockets {
            prepare(&SockRef::from(socket))?;
        }
        let bound_for = BoundFor { given: true, ..BoundFor::settings(listen) };
        Ok(Self { sockets: sockets.into(), bound_for })
    }

    /// Sockets of a process that this one takes the place of.
    pub fn inherited(sockets: Vec<TcpListener>, bound_for: BoundFor) -> Self {
        Self { sockets: sockets.into(), bound_for }
    }

    pub fn bound_for(&self) -> &BoundFor {
        &self.bound_for
    }

    /// What to listen on by other settings; `None` where that is the same, or systemd says it.
    ///
    /// An address may overlap with the one in use (`::` and an IPv4 address, both on the same port), which the kernel
    /// allows to sockets of one user that ask for it. They ask no longer than this call takes: else any process of the
    /// user could take connections beside them.
    pub fn moved_to(&self, listen: &Listen) -> Result<Option<Self>, BindError> {
        let bound_for = BoundFor::settings(listen);
        if self.bound_for.given || bound_for == self.bound_for {
            return Ok(None);
        }
        match Self::open(listen) {
            Err(BindError::Taken(_)) => (),
            bound => return bound.map(Some),
        }
        self.share_port(true);
        let bound = bind_with(listen, true).map(|socket| Self { sockets: Arc::from([socket]), bound_for });
        self.share_port(false);
        if let Ok(bound) = &bound {
            bound.share_port(false);
        }
        bound.map(Some)
    }

    fn share_port(&self, shared: bool) {
        for socket in &*self.sockets {
            let _ = SockRef::from(socket).set_reuse_port(shared);
        }
    }
}

impl BoundFor {
    fn settings(listen: &Listen) -> Self {
        Self { address: listen.address.to_string(), port: listen.port, given: false }
    }
}

/// Binds and listens. `::` takes both families, whatever `net.ipv6.bindv6only` says, and IPv4 alone where the
/// kernel has no IPv6.
pub fn bind(listen: &Listen) -> Result<TcpListener, BindError> {
    bind_with(listen, false)
}

fn bind_with(listen: &Listen, shared: bool) -> Result<TcpListener, BindError> {
    let port = listen.port;
    let bind_to = |address| bind_to(address, shared);
    match &listen.address {
        ListenAddress::Any => match bind_to(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            Err(BindError::NotHere(_) | BindError::Other { .. }) => {
                tracing::warn!("IPv6 is off on this machine; listening on 0.0.0.0 only");
                bind_to(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            }
            bound => bound,
        },
        ListenAddress::Literal { address, zone } => bind_to(with_zone(*address, zone.as_deref(), port)?),
        ListenAddress::Name(name) => bind_name(name, port, shared),
    }
}

/// The first address of the name that can be bound, as `IO::Socket::IP` takes it.
fn bind_name(name: &str, port: u16, shared: bool) -> Result<TcpListener, BindError> {
    let no_such_name = |source| BindError::NoSuchName { name: name.to_owned(), source };
    let mut failed = None;
    for address in (name, port).to_socket_addrs().map_err(no_such_name)? {
        match bind_to(address, shared) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or_else(|| no_such_name(io::Error::from(io::ErrorKind::NotFound))))
}

fn with_zone(address: IpAddr, zone: Option<&str>, port: u16) -> Result<SocketAddr, BindError> {
    let IpAddr::V6(address) = address else { return Ok(SocketAddr::new(address, port)) };
    let scope = match zone {
        None if address.is_unicast_link_local() => return Err(BindError::ZoneMissing(address)),
        None => 0,
        Some(zone) => zone_index(zone).ok_or_else(|| BindError::NoSuchZone(zone.to_owned()))?,
    };
    Ok(SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope)))
}

/// The index of an interface given by name, or by its index.
fn zone_index(zone: &str) -> Option<u32> {
    let by_name = nix::net::if_::if_nametoindex(zone).ok();
    by_name.or_else(|| {
        let index = zone.parse().ok()?;
        // For an index that is not there nix 0.31 gives an empty name, no error.
        nix::net::if_::if_indextoname(index).is_ok_and(|name| !name.is_empty()).then_some(index)
    })
}

fn bind_to(address: SocketAddr, shared: bool) -> Result<TcpListener, BindError> {
    listen_on(address, shared).map_err(|source| {
        let kind = source.kind();
        if kind == io::ErrorKind::AddrNotAvailable {
            BindError::NotHere(address)
        } else if kind == io::ErrorKind::AddrInUse {
            BindError::Taken(address)
        } else if kind == io::ErrorKind::PermissionDenied {
            BindError::Forbidden(address)
        } else {
            BindError::Other { address, source }
        }
    })
}

fn listen_on(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    prepare(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepted sockets inherit these: no delay for small answers, a client that vanished is noticed, and a slow one shows
/// that it takes bytes long before a third of a large send buffer is free.
fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_nonblocking(true)
}
