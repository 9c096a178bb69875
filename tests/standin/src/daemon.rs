//! The stand-in for `pvedaemon` and `pmgdaemon`: answers like them and keeps every request it got.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use crate::answer::{Answer, Reply, Step};
use crate::api;
use crate::background::Background;
use crate::form::Params;
use crate::held::Held;
use crate::keys::Keys;
use crate::record::Recorded;
use crate::wire::{Arrival, Wire};
use crate::workers::{Counted, Workers};

const REQUESTS_PER_CONNECTION: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Pve,
    Pmg,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A free port of 127.0.0.1.
    Free,
    Address(SocketAddr),
    Unix(PathBuf),
}

#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub password: String,
    /// Has to say `totp:123456` as well.
    pub second_factor: bool,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub product: Product,
    pub keys: Arc<Keys>,
    pub listen: Listen,
    pub users: Vec<User>,
    /// The node that this daemon runs on.
    pub node: String,
    /// Every console is said to be on this port.
    pub console_port: u16,
    /// Spool files of uploads are looked up as they are named, then below this.
    pub root: PathBuf,
    /// How late a 401 comes; 3 s in the original.
    pub refusal_delay: Duration,
    /// Without a byte for so long, a connection is closed.
    pub idle: Duration,
    /// Compress where the client asks for it.
    pub gzip: bool,
    /// The title of its HTML answers; the proxies and the daemons have different ones.
    pub title: String,
    /// Off for a daemon that runs for long.
    pub record: bool,
    /// Calls that it works on at once, as a prefork daemon of so many processes does; the others wait. 0 is no limit.
    pub workers: usize,
}

impl Config {
    /// Process-wide keys, a free port, and `root@pam`, `bob@pve`, `tfa@pve` with the password `demo`.
    pub fn new(product: Product) -> Self {
        let user = |name: &str| User {
            name: name.to_owned(),
            password: "demo".to_owned(),
            second_factor: name.starts_with("tfa@"),
        };
        Self {
            product,
            keys: Arc::new(Keys::generate()),
            listen: Listen::Free,
            users: ["root@pam", "bob@pve", "tfa@pve"].map(user).to_vec(),
            node: crate::demo::node_name(),
            console_port: 5900,
            root: PathBuf::from("/"),
            refusal_delay: Duration::ZERO,
            idle: Duration::from_secs(5),
            gzip: false,
            title: "Standin API".to_owned(),
            record: true,
            workers: 0,
        }
    }
}

/// Serves until dropped.
#[derive(Debug)]
pub struct Daemon {
    address: String,
    shared: Arc<Shared>,
    _background: Background,
}

impl Daemon {
    /// Panics when it cannot listen; see [`Daemon::try_start`].
    pub fn start(config: Config) -> Self {
        Self::try_start(config).unwrap()
    }

    pub fn try_start(config: Config) -> io::Result<Self> {
        let (listener, address) = Listener::bind(&config.listen)?;
        let workers = config.workers;
        let shared = Arc::new(Shared {
            config,
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            workers: Workers::new(workers),
            held: Held::default(),
        });
        let serving = Arc::clone(&shared);
        Ok(Self { address, shared, _background: Background::start(move || listener.serve(serving)) })
    }

    /// In the form of the setting `backend.address`: `127.0.0.1:PORT` or `unix:/path`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Everything received so far, as it came.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The latest request; panics when there was none.
    pub fn last(&self) -> Recorded {
        self.requests().pop().expect("no request came")
    }

    /// Ends it at once, as a kill does: no call gets an answer any more. Gives what was received.
    pub fn stop(self) -> Vec<Recorded> {
        let shared = Arc::clone(&self.shared);
        drop(self);
        shared.requests.lock().unwrap().clone()
    }

    pub fn clear(&self) {
        self.shared.requests.lock().unwrap().clear();
        self.shared.workers.forget_most();
    }

    /// Answers the calls with `standin-hold=NAME` in query or body: those that came, and those that will.
    pub fn release(&self, name: &str) {
        self.shared.held.release(name);
    }

    /// The most requests that it held at once without the head of an answer, those that waited for a worker included.
    pub fn most_at_once(&self) -> usize {
        self.shared.workers.most()
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Listen::Unix(path) = &self.shared.config.listen {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    requests: Mutex<Vec<Recorded>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    workers: Workers,
    held: Held,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn bind(listen: &Listen) -> io::Result<(Self, String)> {
        let address = match listen {
            Listen::Free => SocketAddr::from(([127, 0, 0, 1], 0)),
            Listen::Address(address) => *address,
            Listen::Unix(path) => {
                let _ = std::fs::remove_file(path);
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                return Ok((Self::Unix(listener), format!("unix:{}", path.display())));
            }
        };
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?.to_string();
        Ok((Self::Tcp(listener), address))
    }

    async fn serve(self, shared: Arc<Shared>) {
        match self {
            Self::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let accepted = listener.accept().await;
                    welcome(&shared, accepted.map(|(stream, _)| stream)).await;
                }
            }
            Self::Unix(listener) => {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                loop {
                    let accepted = listener.accept().await;
                    welcome(&shared, accepted.map(|(stream, _)| stream)).await;
                }
            }
        }
    }
}

async fn welcome<S>(shared: &Arc<Shared>, accepted: io::Result<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match accepted {
        Ok(stream) => {
            let number = shared.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(Arc::clone(shared).converse(stream, number));
        }
        Err(_) => sleep(Duration::from_millis(50)).await,
    }
}

impl Shared {
    async fn converse<S>(self: Arc<Self>, stream: S, number: usize) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let _open = Counted::new(&self.open);
        let mut wire = Wire::new(stream, self.config.idle);
        for count in 1..=REQUESTS_PER_CONNECTION {
            let Some(mut arrival) = wire.receive().await? else {
                break;
            };
            arrival.request.connection = number;
            self.take_upload(&mut arrival.request);
            if self.config.record {
                let request = arrival.request.clone();
                self.requests.lock().unwrap().push(request);
            }
            let mut worker = Some(self.workers.take().await);
            let reply = self.reply(arrival, count < REQUESTS_PER_CONNECTION).await;
            for step in reply.steps {
                let is_written = matches!(step, Step::Write(_));
                wire.perform(step).await?;
                if is_written {
                    worker = None;
                }
            }
            drop(worker);
            if reply.close {
                break;
            }
        }
        wire.close().await
    }

    async fn reply(&self, arrival: Arrival, keep_alive: bool) -> Reply {
        let Arrival { request, fault } = arrival;
        if let Some(fault) = fault {
            return Answer::bare(&fault).into_reply(&request.method, false);
        }
        let keep_alive = keep_alive && request.keeps_alive();
        // A call that takes its time.
        let params = Params::of(&request).unwrap_or_else(|_| Params::parse(request.query()));
        let wait = params.number("standin-wait", 0);
        sleep(Duration::from_millis(wait)).await;
        self.held.wait(params.value("standin-hold")).await;
        let (mut answer, is_stream) = match api::handle(self, &request, keep_alive) {
            api::Handled::Script(reply) => return reply,
            api::Handled::Answer(answer) => (answer, false),
            api::Handled::Stream(answer) => (answer, true),
        };
        if answer.status == 401 {
            sleep(self.config.refusal_delay).await;
        }
        // White space behind the answer changes nothing about it.
        let padding = usize::try_from(params.number("standin-pad", 0)).unwrap_or_default();
        answer.body.extend(std::iter::repeat_n(b' ', padding));
        let encodings = request.all("accept-encoding").join(",");
        let gzip = self.config.gzip && encodings.contains("gzip") && !answer.body.is_empty();
        let answer = if gzip { answer.gzipped().await } else { answer };
        if params.number("standin-chunked", 0) == 1 {
            let keep_alive = keep_alive && answer.status < 400;
            answer.into_chunks(keep_alive)
        } else if is_stream {
            answer.into_stream(&request.method)
        } else {
            answer.into_reply(&request.method, keep_alive)
        }
    }

    /// The worker behind an upload moves the file away, but not on the storages `broken`, `slow` and `kept`. Nothing
    /// but a spool file is ever touched: this happens before the credential is verified.
    fn take_upload(&self, request: &mut Recorded) {
        let params = Params::of(request).unwrap_or_default();
        let name = params.value("tmpfilename").unwrap_or_default();
        let leaves = ["/broken/upload", "/slow/upload", "/kept/upload"];
        if !request.path().ends_with("/upload")
            || leaves.iter().any(|end| request.path().ends_with(end))
            || !is_spool_file(name)
        {
            return;
        }
        let below = self.config.root.join(name.trim_start_matches('/'));
        for path in [PathBuf::from(name), below] {
            if let Ok(content) = std::fs::read(&path) {
                request.upload = Some(content);
                let _ = std::fs::remove_file(path);
                return;
            }
        }
    }
}

/// `/var/tmp/pveupload-` and 32 hex digits, below any root.
fn is_spool_file(name: &str) -> bool {
    let (_, digits) = name.rsplit_once("/var/tmp/pveupload-").unwrap_or_default();
    digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}
