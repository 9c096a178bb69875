//! `CONNECT` with a signed ticket: to a port of this node, or to the same door of another one.

mod refusal;
mod rules;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use nodegate_spice::head::{connect_request, read_head, read_response};
use nodegate_spice::{ConnectHead, HeadError, Meter, Target, ticket, tunnel};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use self::refusal::Refusal;
pub use self::rules::TunnelRules;
use crate::acl::PeerIp;
use crate::engine::{Engine, Speaks};
use crate::limits::{Excess, logins};
use crate::response::access_log::Entry;
use crate::server::Worker;
use crate::status::bridges::{Bridge, Kind};
use crate::status::counters::{self, Answered};
use crate::status::labels::Destination;

/// Viewers give up after 10 s; a hop behind another one must be done before that one gives up.
const FIRST_HOP: Duration = Duration::from_secs(8);
const SECOND_HOP: Duration = Duration::from_secs(5);
/// Between two looks at a tunnel that is nearly unused long enough.
const MOMENT: Duration = Duration::from_millis(100);
/// For a client to take a refusal.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The far end of a tunnel, and what it has sent already.
struct FarEnd {
    /// for people
    name: String,
    stream: TcpStream,
    early: Vec<u8>,
}

/// Serves one connection: head, ticket, far end, then bytes both ways until both ends are done, or nodegate stops.
/// With an `excess` it is only told why not.
pub async fn serve(worker: Rc<Worker>, mut client: TcpStream, peer: PeerIp, excess: Option<Excess>) {
    keep_alive(&client);
    let stop = worker.stop.clone();
    let serving = async {
        let idle = worker.engine.config.settings.timeout.tunnel;
        let opened = open(&worker.engine, &mut client, peer, excess).await;
        drop(worker); // a tunnel may outlive many configurations
        if let Some((mut server, early)) = opened {
            run(&mut client, &early, &mut server, peer, idle).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => (),
        () = serving => (),
    }
}

async fn run(
    client: &mut TcpStream,
    early: &[u8],
    server: &mut FarEnd,
    peer: PeerIp,
    idle: Option<Duration>,
) {
    let name = std::mem::take(&mut server.name);
    let bridge = Bridge::new(Kind::Tunnel, peer.address(), None, name).open();
    let ended = tokio::select! {
        ended = tunnel::run(client, &mut server.stream, early, &server.early, &bridge.meter) => ended,
        () = unused(&bridge.meter, idle) => Err(io::ErrorKind::TimedOut.into()),
    };
    let error = ended.err().map(|error| error.to_string());
    let moved = bridge.meter.moved();
    tracing::debug!(peer = %peer.address(), up = moved.up, down = moved.down, error, "tunnel ended");
}

/// Returns when nothing has moved for so long.
async fn unused(meter: &Meter, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    let (mut moved, mut since) = (meter.moved(), Instant::now());
    while since.elapsed() < idle {
        sleep(idle.saturating_sub(since.elapsed()).max(MOMENT)).await;
        let now = meter.moved();
        if now != moved {
            (moved, since) = (now, Instant::now());
        }
    }
}

/// The far end, once the client has been told that it is there, and what the client has sent it already.
async fn open(
    engine: &Engine,
    client: &mut TcpStream,
    peer: PeerIp,
    excess: Option<Excess>,
) -> Option<(FarEnd, Vec<u8>)> {
    let Speaks::Connect(rules) = &engine.speaks else { return None };
    let patience = engine.config.settings.timeout.header;
    let head = match timeout(patience, read_head(client, &rules.limits, &rules.names)).await {
        Ok(Ok(head)) => head,
        Ok(Err(HeadError::Closed | HeadError::Io(_))) => return None,
        Ok(Err(error)) => return refuse(engine, client, peer, "-", 0, Refusal::of_head(&error)).await,
        Err(_) => return refuse(engine, client, peer, "-", 0, Refusal::HeadTimeout).await,
    };
    let line = format!("{} {} HTTP/1.{}", head.method, ticket::mask(&head.target), head.minor_version);
    let version = head.minor_version;
    let far_end = match excess {
        Some(excess) => Err(Refusal::Excess(excess)),
        None => far_end(engine, rules, &head, peer).await,
    };
    match far_end {
        Ok(server) => {
            log(engine, peer, &line, 200, None);
            let welcome = format!("HTTP/1.{version} 200 OK\r\n\r\n");
            client.write_all(welcome.as_bytes()).await.ok()?;
            Some((server, head.early))
        }
        Err(refusal) => refuse(engine, client, peer, &line, version, refusal).await,
    }
}

async fn far_end(
    engine: &Engine,
    rules: &TunnelRules,
    head: &ConnectHead,
    peer: PeerIp,
) -> Result<FarEnd, Refusal> {
    if head.method != "CONNECT" {
        return Err(Refusal::Method(head.method.clone()));
    }
    if head.host.as_deref() != Some(&head.target) {
        return Err(Refusal::HostDiffers);
    }
    let target = match rules.judge(&head.target) {
        Err(refusal) if refusal.is_guess() => return Err(held_back(engine, peer, refusal).await),
        judged => judged?,
    };
    if rules.is_here(&target.node) {
        let limit = if head.looped { SECOND_HOP } else { FIRST_HOP };
        return within(limit, &format!("port {}", target.port), connect_here(&target)).await;
    }
    if head.looped {
        return Err(Refusal::Loop);
    }
    let mut nodes = engine.nodes.current().map_err(Refusal::Nodes)?;
    if nodes.find(&target.node).is_none() && engine.nodes.has_changed() {
        nodes = engine.nodes.current().map_err(Refusal::Nodes)?;
    }
    let (node, address) = nodes
        .find(&target.node)
        .ok_or_else(|| Refusal::UnknownNode { node: target.node.clone(), known: nodes.names() })?;
    let address = address.ok_or_else(|| Refusal::NoAddress(node.to_owned()))?;
    let there = SocketAddr::new(address, rules.peer_port);
    within(FIRST_HOP, &format!("node '{node}' at {there}"), connect_through(rules, there, node, head, peer))
        .await
}

/// A forged ticket is a failed login of its address: the first few are answered at once, as viewers expect it.
async fn held_back(engine: &Engine, peer: PeerIp, refusal: Refusal) -> Refusal {
    let Some(address) = engine.counted(peer, peer.address()) else { return refusal };
    let limit = engine.config.settings.limits.login_failures;
    let (began, logins) = (Instant::now(), &engine.counts.logins);
    let failed = logins.failed(address, limit);
    logins::tell(address, None, &refusal);
    let held = match failed {
        Ok(()) => logins.hold_back_repeated(address, began).await,
        Err(excess) => Err(excess),
    };
    held.map_or_else(Refusal::Excess, |()| refusal)
}

async fn within<F>(limit: Duration, to: &str, connecting: F) -> Result<FarEnd, Refusal>
where
    F: Future<Output = Result<FarEnd, Refusal>>,
{
    timeout(limit, connecting)
        .await
        .unwrap_or_else(|_| Err(Refusal::ConnectTimeout { to: to.to_owned(), limit }))
}

/// The machine listens on the loopback address of the node's family: IPv4 first, then IPv6.
async fn connect_here(target: &Target) -> Result<FarEnd, Refusal> {
    let Target { vmid, port, .. } = *target;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        match TcpStream::connect((address, port)).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                keep_alive(&stream);
                return Ok(FarEnd {
                    name: format!("machine {vmid}, port {port}"),
                    stream,
                    early: Vec::new(),
                });
            }
            Err(error) => last = error,
        }
    }
    Err(Refusal::Connect { to: format!("port {port}"), cause: last.kind().to_string() })
}

/// The same CONNECT, repeated to the node that has the machine.
async fn connect_through(
    rules: &TunnelRules,
    there: SocketAddr,
    node: &str,
    head: &ConnectHead,
    peer: PeerIp,
) -> Result<FarEnd, Refusal> {
    let failed = |error: &io::Error| Refusal::Connect {
        to: format!("node '{node}' at {there}"),
        cause: error.kind().to_string(),
    };
    let client = peer.address().to_string();
    let headers = [(rules.names.loop_header.as_str(), "true"), (rules.names.client_header.as_str(), &client)];
    let request = connect_request(&head.target, &headers).map_err(|error| Refusal::of_head(&error))?;
    let mut stream = TcpStream::connect(there).await.map_err(|error| failed(&error))?;
    let _ = stream.set_nodelay(true);
    keep_alive(&stream);
    stream.write_all(&request).await.map_err(|error| failed(&error))?;
    match read_response(&mut stream, &rules.limits).await {
        Ok((200, early)) => Ok(FarEnd { name: format!("a machine of node {node}"), stream, early }),
        Ok((status, _)) => Err(Refusal::NextHop { node: node.to_owned(), status }),
        Err(error) => {
            Err(Refusal::Connect { to: format!("node '{node}' at {there}"), cause: error.to_string() })
        }
    }
}

/// A viewer may sit idle for hours; only a dead one is to be noticed.
fn keep_alive(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_keepalive(true);
}

/// Says no; there is no tunnel.
async fn refuse<T>(
    engine: &Engine,
    client: &mut TcpStream,
    peer: PeerIp,
    line: &str,
    version: u8,
    refusal: Refusal,
) -> Option<T> {
    use std::error::Error as _;
    let cause = refusal.source().map(ToString::to_string);
    let (status, _) = refusal.status();
    if let Refusal::Excess(excess) = refusal {
        counters::limited(excess.limit());
    }
    tracing::warn!(peer = %peer.address(), status, cause, "tunnel refused: {refusal}");
    log(engine, peer, line, status, u64::try_from(refusal.to_string().len()).ok());
    let _ = timeout(LAST_WORDS, async {
        client.write_all(refusal.answer(version).as_bytes()).await?;
        client.shutdown().await?;
        // What is still on its way would make the system throw the answer away.
        let mut rest = [0; 1024];
        while client.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
    None
}

fn log(engine: &Engine, peer: PeerIp, line: &str, status: u16, bytes: Option<u64>) {
    counters::answered(Answered { destination: Destination::Tunnel, status, bytes: 0, started: None });
    engine.log.write(&Entry { bytes, ..Entry::new(peer.address(), line, status) });
}
