//! The target of a console: the port or socket that the daemon names, whether the profile allows it, and the
//! connection.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;

use crate::config::Config;
use crate::config::product::UpgradeProtocol;
use crate::config::root::RootDirectory;
use crate::config::settings::port_range;
use crate::http::path_pattern::PathPattern;
use crate::http::target::{ApiPath, query_value};
use crate::metrics::sessions::SessionGuard;
use crate::upstream::client::{FailurePhase, UpstreamError, io_message};
use crate::upstream::loopback::connect_port;
use crate::verdict::api_answer::ApiAnswer;
use crate::verdict::console::{NamedPlace, named_place};

/// The ports and sockets that the profile allows. Without a `console` section the product has no consoles.
pub struct ConsoleRules {
    ports: RangeInclusive<u16>,
    sockets: Vec<PathBuf>,
    pub(super) subprotocols: Vec<String>,
    /// calls, and the parameter of each that holds the console's own ticket
    tickets: Vec<(PathPattern, String)>,
    root: RootDirectory,
}

/// The port or socket that a daemon names.
#[derive(Debug, Eq, PartialEq)]
pub enum ConsoleTarget {
    /// a port of this node
    Port(u16),
    /// a UNIX socket
    Socket(PathBuf),
}

/// The reason why nodegate does not connect to a console.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConsoleTargetError {
    #[error("port {0} is not a console port")]
    Port(u64),
    #[error("'{0}' is not a socket of a console")]
    Socket(String),
}

/// A connected console and its entry in the list of open sessions.
pub struct ConnectedConsole {
    pub stream: ConsoleStream,
    pub listed: SessionGuard,
}

pub type ConsoleStream = Either<TcpStream, UnixStream>;

impl ConsoleRules {
    /// `None` if the product has no consoles.
    ///
    /// # Errors
    /// A rule of the profile is not sound.
    pub fn new(config: &Config) -> Result<Option<Self>, String> {
        let Some(console) = &config.product.console else { return Ok(None) };
        // The relay knows this protocol only; another one in the profile's set would need its own relay here.
        let UpgradeProtocol::Websocket = console.upgrade;
        let ports =
            port_range(&console.ports).map_err(|message| format!("product.console.ports: {message}"))?;
        let mut tickets = Vec::new();
        for ticket in &console.ticket {
            for call in &ticket.calls {
                let call =
                    PathPattern::parse(call).map_err(|what| format!("product.console.ticket: {what}"))?;
                tickets.push((call, ticket.parameter.clone()));
            }
        }
        let (sockets, subprotocols) = (console.sockets.clone(), console.subprotocols.clone());
        Ok(Some(Self { ports, sockets, subprotocols, tickets, root: config.root.clone() }))
    }

    /// Whether a call has a ticket for the console itself. Only the daemon can verify it.
    pub fn has_own_ticket(&self, path: &ApiPath, query: &str) -> bool {
        let mut tickets = self.tickets.iter();
        let parameter = tickets.find(|(call, _)| call.matches("GET", path.segments()));
        let value = parameter.and_then(|(_, name)| query_value(query, name));
        value.is_some_and(|ticket| !ticket.is_empty())
    }

    /// The target in a daemon's answer, `{"data":{"port":…}}` or `{"data":{"socket":…}}`. `None` if it names none.
    ///
    /// # Errors
    /// The profile does not allow this port or socket.
    pub fn find_target(&self, answer: &ApiAnswer) -> Result<Option<ConsoleTarget>, ConsoleTargetError> {
        let target = named_place(answer).map(|named| match named {
            NamedPlace::Socket(name) => self.check_socket(name),
            NamedPlace::Port(port) => {
                let allowed = u16::try_from(port).ok().filter(|port| self.ports.contains(port));
                allowed.map(ConsoleTarget::Port).ok_or(ConsoleTargetError::Port(port))
            }
        });
        target.transpose()
    }

    fn check_socket(&self, name: &str) -> Result<ConsoleTarget, ConsoleTargetError> {
        let path = Path::new(name);
        let is_plain = !path.components().any(|part| part == Component::ParentDir);
        if is_plain && self.sockets.iter().any(|prefix| path.starts_with(prefix) && path != prefix) {
            Ok(ConsoleTarget::Socket(path.to_owned()))
        } else {
            Err(ConsoleTargetError::Socket(name.to_owned()))
        }
    }

    /// The socket's path without symbolic links, if the profile allows that path as well.
    async fn resolve_socket(&self, path: &Path) -> io::Result<PathBuf> {
        let real = tokio::fs::canonicalize(self.root.path(path)).await?;
        for prefix in &self.sockets {
            let prefix = tokio::fs::canonicalize(self.root.path(prefix)).await;
            if prefix.is_ok_and(|prefix| real.starts_with(prefix)) {
                return Ok(real);
            }
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "a link leads out of the allowed directories"))
    }

    /// Connects within `limit`.
    pub async fn connect(
        &self,
        target: &ConsoleTarget,
        limit: Duration,
    ) -> Result<ConsoleStream, UpstreamError> {
        let started = Instant::now();
        let connecting = async {
            match target {
                ConsoleTarget::Port(port) => connect_port(*port).await.map(Either::Left),
                ConsoleTarget::Socket(path) => {
                    let path = self.resolve_socket(path).await?;
                    UnixStream::connect(path).await.map(Either::Right)
                }
            }
        };
        let cause = match timeout(limit, connecting).await {
            Ok(Ok(console)) => return Ok(console),
            Ok(Err(error)) => io_message(&error),
            Err(_) => "Connection timed out".to_owned(),
        };
        let upstream = match target {
            ConsoleTarget::Port(port) => format!("console port {port}"),
            ConsoleTarget::Socket(path) => format!("console socket {}", path.display()),
        };
        Err(UpstreamError { phase: FailurePhase::Connect, upstream, elapsed: started.elapsed(), cause })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::api_grammar::tests::named_formats;
    use crate::http::target::RequestTarget;

    fn rules() -> ConsoleRules {
        ConsoleRules {
            ports: 5900..=5999,
            sockets: vec!["/run/qemu-server/".into(), "/run/machines/".into()],
            subprotocols: Vec::new(),
            tickets: vec![(PathPattern::parse("GET /machines/{machine}/screen").unwrap(), "seal".to_owned())],
            root: RootDirectory::default(),
        }
    }

    fn answer(json: &serde_json::Value) -> ApiAnswer {
        ApiAnswer::read(&http::HeaderMap::new(), json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn profile_names_the_ticket_parameter() {
        let has = |path: &str, query: &str| match RequestTarget::parse(path, &named_formats()).unwrap() {
            RequestTarget::Api(path) => rules().has_own_ticket(&path, query),
            RequestTarget::NoSuchUri | RequestTarget::Path(_) => false,
        };
        let screen = "/api2/json/machines/a/screen";
        assert!(has(screen, "port=1&seal=x") && has("/api2/json//machines/a//screen", "se%61l=%3A"));
        for query in ["", "port=1", "seal", "seal=", "seal=&seal=x", "ticket=x", "xseal=x"] {
            assert!(!has(screen, query), "{query}");
        }
        assert!(!has("/api2/json/machines/a/other", "seal=x") && !has("/machines/a/screen", "seal=x"));
    }

    #[test]
    fn ports_are_numbers_or_text_within_the_range() {
        let target = |port| rules().find_target(&answer(&json!({ "data": { "port": port } })));
        assert_eq!(target(json!(5900)), Ok(Some(ConsoleTarget::Port(5900))));
        assert_eq!(target(json!("5999")), Ok(Some(ConsoleTarget::Port(5999))));
        for port in [0_u64, 22, 5899, 6000, 65_535, 65_536 + 5900, u64::MAX] {
            assert_eq!(target(json!(port)), Err(ConsoleTargetError::Port(port)));
            assert_eq!(target(json!(port.to_string())), Err(ConsoleTargetError::Port(port)));
        }
        for port in [json!(null), json!(-5900), json!(5900.5), json!("x"), json!([5900]), json!("")] {
            assert_eq!(target(port), Ok(None));
        }
        for other in [
            json!({}),
            json!({ "data": "5900" }),
            json!({ "data": { "port": 5900 }, "success": 0 }),
            json!({ "data": { "socket": "/run/machines/a" }, "success": false, "status": 403 }),
        ] {
            assert_eq!(rules().find_target(&answer(&other)), Ok(None), "{other}");
        }
    }

    #[test]
    fn sockets_lie_below_the_prefixes() {
        let target = |socket: &str| rules().find_target(&answer(&json!({ "data": { "socket": socket } })));
        for good in ["/run/qemu-server/100.mtunnel", "/run/machines/ct-100.mtunnel", "/run/machines/a/b"] {
            assert_eq!(target(good), Ok(Some(ConsoleTarget::Socket(good.into()))));
        }
        for bad in [
            "/run/qemu-server/../systemd/private",
            "/run/machines/../machines/x",
            "/run/qemu-server-2/x",
            "/run/qemu-server/",
            "/run/machines",
            "run/machines/x",
            "/var/run/machines/x",
            "",
        ] {
            assert_eq!(target(bad), Err(ConsoleTargetError::Socket(bad.to_owned())), "{bad}");
        }
    }
}
