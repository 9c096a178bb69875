//! The listening sockets, from `LISTEN_IP` and the port, or from a `[[listener]]` table.

mod listener_set;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, ToSocketAddrs as _};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::settings::{ListenAddress, ListenSettings};
pub use crate::os::listener::listener_set::{
    BindKey, ListenerPlan, ListenerSet, ListeningSocket, UnboundListener,
};

/// Bytes that the kernel may buffer for a client beyond the bytes in flight.
const MAX_UNSENT_BYTES: u32 = 128 << 10;
/// The kernel caps it at `net.core.somaxconn`.
const BACKLOG_CONNECTIONS: i32 = 4096;

/// Why a socket cannot be bound; each message says what to check.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{} is not an address of this machine", without_port_0(.0))]
    NotHere(SocketAddr),
    #[error("port {} on {} is in use by another process", .0.port(), .0.ip())]
    Taken(SocketAddr),
    #[error("another listener already uses {0}")]
    Twice(SocketAddr),
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

impl BindError {
    /// The key of a listener to correct.
    fn key(&self) -> &'static str {
        match self {
            Self::Taken(_) | Self::Twice(_) | Self::Forbidden(_) => "port",
            Self::NotHere(_)
            | Self::ZoneMissing(_)
            | Self::NoSuchZone(_)
            | Self::NoSuchName { .. }
            | Self::Other { .. } => "address",
        }
    }
}

fn without_port_0(address: &SocketAddr) -> String {
    if address.port() > 0 {
        return address.to_string();
    }
    match address {
        SocketAddr::V6(address) if address.scope_id() > 0 => {
            format!("{}%{}", address.ip(), address.scope_id())
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => address.ip().to_string(),
    }
}

/// An error for each listener whose address this machine lacks. A port may be in use by the running process, so none
/// is tried.
pub fn address_problems(config: &Config) -> Vec<Diagnostic> {
    let listeners = config.settings.listeners.iter().enumerate();
    let problem = |(number, address): (usize, ListenAddress)| {
        let error = bind(&ListenSettings { address, port: 0 }).err()?;
        Some(config.listener_problem(number, error.key(), error.to_string()))
    };
    listeners
        .map(|(number, listener)| (number, listener.listen.address.clone()))
        .filter(|(_, address)| !matches!(address, ListenAddress::Any | ListenAddress::AnyV6))
        .filter_map(problem)
        .collect()
}

/// Binds and listens. `::` accepts both families, independent of `net.ipv6.bindv6only`, and only IPv4 if the kernel
/// has no IPv6.
pub fn bind(listen: &ListenSettings) -> Result<TcpListener, BindError> {
    bind_with(listen, false)
}

fn bind_with(listen: &ListenSettings, shared: bool) -> Result<TcpListener, BindError> {
    let port = listen.port;
    let only_v6 = listen.address != ListenAddress::Any;
    let bind_to = |address| bind_to(address, BindOptions { shared, only_v6 });
    match &listen.address {
        ListenAddress::Any => match bind_to(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            Err(BindError::NotHere(_) | BindError::Other { .. }) => {
                tracing::warn!("IPv6 is off on this machine; listening on 0.0.0.0 only");
                bind_to(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            }
            bound => bound,
        },
        ListenAddress::AnyV6 => bind_to(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        ListenAddress::Literal { address, zone } => bind_to(with_zone(*address, zone.as_deref(), port)?),
        ListenAddress::Name(name) => bind_name(name, port, BindOptions { shared, only_v6 }),
    }
}

/// The first address of the name that can be bound, as `IO::Socket::IP` does it.
fn bind_name(name: &str, port: u16, options: BindOptions) -> Result<TcpListener, BindError> {
    let no_such_name = |source| BindError::NoSuchName { name: name.to_owned(), source };
    let mut failed = None;
    for address in (name, port).to_socket_addrs().map_err(no_such_name)? {
        match bind_to(address, options) {
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
        // For an unknown index nix 0.31 returns an empty name and no error.
        nix::net::if_::if_indextoname(index).is_ok_and(|name| !name.is_empty()).then_some(index)
    })
}

#[derive(Clone, Copy)]
struct BindOptions {
    /// with other sockets of this process at the same address
    shared: bool,
    only_v6: bool,
}

fn bind_to(address: SocketAddr, options: BindOptions) -> Result<TcpListener, BindError> {
    listen_on(address, options).map_err(|source| {
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

fn listen_on(address: SocketAddr, options: BindOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(options.only_v6)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.shared)?;
    prepare(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_CONNECTIONS)?;
    Ok(socket.into())
}

/// Accepted sockets inherit these options: small responses go out at once, a vanished client is noticed, and a slow
/// one shows progress long before a third of a large send buffer is free.
fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
    socket.set_nonblocking(true)
}
