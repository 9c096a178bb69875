//! Full and resumed TLS handshakes, one request each.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use openssl::ssl::{SslContext, SslSession, SslSessionCacheMode};
use tokio::io::AsyncWriteExt as _;
use tokio::task::LocalSet;

use super::client;

/// The kind of handshake to measure.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) address: SocketAddr,
    /// the whole request; its answer has a Content-Length
    pub(crate) request: &'a str,
    /// clients at a time, on one thread
    pub(crate) parallel: usize,
    pub(crate) duration: Duration,
    /// come back with the ticket of the connection before
    pub(crate) resume: bool,
}

/// The result of one run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) connections: u32,
    /// 0 … 1; the first connection of a client is not counted
    pub(crate) resumed: f64,
    pub(crate) failed: u32,
}

#[derive(Default)]
struct Tally {
    connections: u32,
    resumed: u32,
    failed: u32,
}

/// Connects, asks once, closes, again and again.
pub(crate) fn run(plan: &Plan) -> Result<Rate> {
    let runtime = client::runtime()?;
    let tally = Rc::new(RefCell::new(Tally::default()));
    let mut took = Duration::ZERO;
    LocalSet::new().block_on(&runtime, async {
        let mut clients = Vec::new();
        for _ in 0..plan.parallel {
            let one = Client::new(plan)?;
            one.connect().await?; // gives the ticket, and is not counted
            clients.push(one);
        }
        let begun = Instant::now();
        let until = begun + plan.duration;
        let running: Vec<_> = clients
            .into_iter()
            .map(|one| tokio::task::spawn_local(one.run(until, Rc::clone(&tally))))
            .collect();
        for client in running {
            client.await?;
        }
        took = begun.elapsed();
        anyhow::Ok(())
    })?;
    let tally = tally.borrow();
    if tally.connections == 0 {
        bail!("not one handshake of {} came to an end", tally.failed);
    }
    Ok(Rate {
        per_second: f64::from(tally.connections) / took.as_secs_f64(),
        connections: tally.connections,
        resumed: f64::from(tally.resumed) / f64::from(tally.connections),
        failed: tally.failed,
    })
}

/// A client with a memory for one ticket.
struct Client {
    address: SocketAddr,
    request: String,
    context: SslContext,
    ticket: Option<Arc<Mutex<Option<SslSession>>>>,
}

impl Client {
    fn new(plan: &Plan) -> Result<Self> {
        let mut builder = client::builder()?;
        let ticket = plan.resume.then(Arc::default);
        if let Some(ticket) = &ticket {
            let newest: Arc<Mutex<Option<SslSession>>> = Arc::clone(ticket);
            builder.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
            builder.set_new_session_callback(move |_, session| {
                if let Ok(mut newest) = newest.lock() {
                    *newest = Some(session);
                }
            });
        }
        let request = plan.request.to_owned();
        Ok(Self { address: plan.address, request, context: builder.build(), ticket })
    }

    async fn run(self, until: Instant, tally: Rc<RefCell<Tally>>) {
        while Instant::now() < until {
            let outcome = self.connect().await;
            let mut tally = tally.borrow_mut();
            match outcome {
                Ok(resumed) => {
                    tally.connections += 1;
                    tally.resumed += u32::from(resumed);
                }
                Err(_) => tally.failed += 1,
            }
        }
    }

    /// Whether the ticket was taken.
    async fn connect(&self) -> Result<bool> {
        let session = match &self.ticket {
            Some(ticket) => ticket.lock().ok().and_then(|mut newest| newest.take()),
            None => None,
        };
        let mut stream = client::connect(self.address, &self.context, session.as_ref()).await?;
        let status = client::ask(&mut stream, &self.request).await?;
        if status != 200 {
            bail!("answered with {status}");
        }
        let resumed = stream.ssl().session_reused();
        // OpenSSL resumes no session of a connection that was not closed in order.
        let _ = stream.shutdown().await;
        Ok(resumed)
    }
}
