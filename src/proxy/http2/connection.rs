//! One connection: its events, one after another, and the tasks of its streams.

use std::future::{poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::OptionFuture;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::gathered_writes::GatheredWrites;
use super::graceful_shutdown::GracefulShutdown;
use super::in_flight::InFlight;
use super::request_slots::RequestSlots;
use super::watched_stream::{FloodWatch, WatchedStream};
use super::{ConnectionEnd, MAX_STREAMS, head, stream};
use crate::metrics::labels::LimitLabel;
use crate::proxy::worker_context::Worker;
use crate::state::client_connection::{AdmissionLost, ClientConnection};
use crate::state::connection_trust::ConnectionTrust;
use crate::time::client_timeouts::{TimedOut, TimedStream};
use crate::tls::ClientStream;

/// Requests in hand, including cancelled ones that still wait for a login verdict.
const MAX_REQUESTS: usize = MAX_STREAMS + 32;
/// Flow-control windows in bytes after the client has logged in.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// The library changes windows only once the client has acknowledged the settings before.
const WIDEN_RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Time to send the last GOAWAY.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

type Io<S> = GatheredWrites<WatchedStream<TimedStream<S>>>;
type Served<S> = Connection<Io<S>, Bytes>;

/// Whether the windows were widened for a client that has logged in.
#[derive(Clone, Copy, Eq, PartialEq)]
enum WindowState {
    Initial,
    /// the library has not accepted the wider windows yet
    Retry,
    Wide,
}

/// A connection after the handshake.
pub(super) struct Http2Connection<S> {
    client: Rc<ClientConnection>,
    connection: Served<S>,
    /// that of `connection`
    io: Io<S>,
    watch: FloodWatch,
    /// cancelled when the worker accepts no more connections
    draining: CancellationToken,
    /// each returns whether the connection must close after it
    streams: JoinSet<bool>,
    in_flight: Rc<InFlight>,
    slots: Rc<RequestSlots>,
    windows: WindowState,
    shutdown: Option<GracefulShutdown>,
    /// an answer that closes the connection waits to be written
    last_answer: bool,
}

/// An event of a connection.
#[expect(clippy::large_enum_variant, reason = "an event lives only until it is handled")]
enum Event {
    /// the worker stops or drains
    ShutsDown,
    Failed(Reason),
    TimedOut(TimedOut),
    /// the client has logged in
    Trusted,
    /// every request has its answer, and GOAWAY was sent
    Drained,
    Answered {
        closes: bool,
    },
    /// the frames of an answer that closes the connection were written
    LastAnswerSent,
    Request(Request<RecvStream>, SendResponse<Bytes>),
    Ended(Option<h2::Error>),
}

/// The end of a connection, and the GOAWAY for it.
struct Close {
    end: ConnectionEnd,
    /// `None` if the client gets no GOAWAY
    reason: Option<Reason>,
}

impl<S: ClientStream> Http2Connection<S> {
    pub(super) fn new(
        worker: &Worker,
        client: &Rc<ClientConnection>,
        connection: Served<S>,
        io: Io<S>,
        watch: FloodWatch,
        slots: Rc<RequestSlots>,
    ) -> Self {
        Self {
            slots,
            draining: worker.context().draining.clone(),
            client: Rc::clone(client),
            connection,
            io,
            watch,
            streams: JoinSet::new(),
            in_flight: Rc::new(InFlight::new(&client.timeouts)),
            windows: WindowState::Initial,
            shutdown: None,
            last_answer: false,
        }
    }

    /// Serves requests until the connection ends.
    pub(super) async fn serve(mut self, worker: &Rc<Worker>) -> ConnectionEnd {
        let timeouts = Rc::clone(&self.client.timeouts);
        let mut expired = pin!(timeouts.expired());
        let Close { end, reason } = loop {
            let event = self.next_event(worker, expired.as_mut()).await;
            if let Some(close) = self.handle(worker, event) {
                break close;
            }
        };
        let Self { mut connection, mut streams, .. } = self;
        if let Some(reason) = reason {
            connection.abrupt_shutdown(reason);
            let _ = timeout(CLOSE_TIMEOUT, poll_fn(|context| connection.poll_closed(context))).await;
        }
        drop(connection);
        // The client has left. A login attempt still gets its verdict, and holds the connection permit until then.
        while streams.join_next().await.is_some() {}
        end
    }

    async fn next_event(
        &mut self,
        worker: &Worker,
        expired: Pin<&mut impl Future<Output = TimedOut>>,
    ) -> Event {
        let is_open = self.shutdown.is_none();
        let trusted = trusted(&self.client.trust, self.windows);
        let accepting =
            poll_fn(|context| self.io.during(context, |context| self.connection.poll_accept(context)));
        let done = OptionFuture::from(self.shutdown.as_ref().map(GracefulShutdown::done));
        tokio::select! {
            biased;
            () = worker.stop.cancelled(), if is_open => Event::ShutsDown,
            () = self.draining.cancelled(), if is_open => Event::ShutsDown,
            () = self.watch.failed.cancelled() => Event::Failed(self.watch.reason()),
            cause = expired => Event::TimedOut(cause),
            () = trusted, if self.windows != WindowState::Wide => Event::Trusted,
            Some(()) = done, if self.streams.is_empty() => Event::Drained,
            Some(closes) = self.streams.join_next() => Event::Answered { closes: closes.unwrap_or_default() },
            accepted = accepting => match accepted {
                Some(Ok((request, respond))) => Event::Request(request, respond),
                Some(Err(error)) => Event::Ended(Some(error)),
                None => Event::Ended(None),
            },
            // Polled behind the connection, which writes what it has in each poll.
            () = ready(()), if self.last_answer => Event::LastAnswerSent,
        }
    }

    fn handle(&mut self, worker: &Rc<Worker>, event: Event) -> Option<Close> {
        let peer = self.client.client_ip.address();
        let goaway = |end, reason| Some(Close { end, reason: Some(reason) });
        let close = match event {
            Event::ShutsDown => {
                self.shutdown = Some(GracefulShutdown::now());
                None
            }
            Event::Failed(reason) => {
                tracing::debug!(%peer, %reason, "the client broke a rule of frames");
                if reason == Reason::ENHANCE_YOUR_CALM {
                    worker.context().state.metrics.count_limit(LimitLabel::Frames);
                }
                goaway(ConnectionEnd::Closed, reason)
            }
            Event::TimedOut(cause) => {
                tracing::debug!(%peer, ?cause, "connection timed out");
                if matches!(cause, TimedOut::Evicted) {
                    worker.context().state.metrics.count_limit(LimitLabel::Strangers);
                }
                Some(close_after_timeout(cause))
            }
            Event::Trusted => {
                self.slots.widen();
                self.windows = widen(&mut self.connection);
                None
            }
            Event::Drained => goaway(ConnectionEnd::Closed, Reason::NO_ERROR),
            Event::Answered { closes } => {
                // The library sends GOAWAY before the frames of streams, and clients drop what follows it.
                self.last_answer |= closes;
                self.shutdown.iter_mut().for_each(GracefulShutdown::answered);
                None
            }
            Event::LastAnswerSent => {
                self.last_answer = false;
                self.shutdown.get_or_insert_with(GracefulShutdown::now);
                None
            }
            Event::Request(request, respond) => {
                let lost = self.begin(worker, request, respond);
                lost.and_then(|lost| goaway(ConnectionEnd::TurnedAway(lost), Reason::NO_ERROR))
            }
            Event::Ended(error) => {
                if let Some(error) = error {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                Some(Close { end: ConnectionEnd::Closed, reason: None })
            }
        };
        if self.shutdown.is_some() {
            // The library sends GOAWAY once and still accepts requests in transit.
            self.connection.graceful_shutdown();
        }
        close
    }

    /// Starts the task of one request, or resets its stream. Returns a reason if the client is no longer admitted.
    fn begin(
        &mut self,
        worker: &Rc<Worker>,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) -> Option<AdmissionLost> {
        let is_malformed = self.watch.is_malformed(respond.stream_id().as_u32());
        if is_malformed || !head::has_trimmed_fields(request.headers()) {
            tracing::debug!(peer = %self.client.client_ip.address(), "a malformed request");
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return None;
        }
        let is_late = self.shutdown.as_ref().is_some_and(GracefulShutdown::is_over);
        if is_late || self.streams.len() >= MAX_REQUESTS {
            respond.send_reset(Reason::REFUSED_STREAM);
            return None;
        }
        let context = worker.context();
        if let Some(lost) = self.client.admission_lost(&context.state, context.generation) {
            return Some(lost);
        }
        let Some(waiting) = self.slots.enter(&request) else {
            respond.send_reset(Reason::REFUSED_STREAM);
            return None;
        };
        let running = self.in_flight.begin();
        let client = Rc::new(self.client.for_stream(&context.state, stream::PIECE_BYTES));
        // Boxed, because the runtime copies a task's future six times.
        self.streams.spawn_local(Box::pin(async move {
            let _running = running;
            let Some(_slot) = waiting.slot(&mut respond).await else { return false };
            stream::serve(context, client, request, respond).await
        }));
        None
    }
}

fn close_after_timeout(cause: TimedOut) -> Close {
    match cause {
        TimedOut::Head => Close { end: ConnectionEnd::NoRequest, reason: Some(Reason::NO_ERROR) },
        TimedOut::Idle | TimedOut::Hibernate => {
            Close { end: ConnectionEnd::Closed, reason: Some(Reason::NO_ERROR) }
        }
        TimedOut::Evicted | TimedOut::Write => Close { end: ConnectionEnd::Closed, reason: None },
    }
}

/// Returns when the client has logged in; waits before a retry.
async fn trusted(trust: &ConnectionTrust, windows: WindowState) {
    if windows == WindowState::Retry {
        sleep(WIDEN_RETRY_INTERVAL).await;
    }
    trust.authenticated().await;
}

/// Sets the windows of a client that has logged in.
fn widen<S: ClientStream>(connection: &mut Served<S>) -> WindowState {
    connection.set_target_window_size(CONNECTION_WINDOW);
    let is_accepted = connection.set_initial_window_size(STREAM_WINDOW).is_ok();
    if is_accepted { WindowState::Wide } else { WindowState::Retry }
}
