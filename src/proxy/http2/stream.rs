//! One stream: its request, and its answer as fast as the client reads.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::time::{Instant, timeout};

use super::head;
use crate::http::logged_body::LoggedBody;
use crate::http::request_body::{RequestBody, StreamBody};
use crate::limits::min_rate::{MinRate, RateTracker};
use crate::proxy::request;
use crate::proxy::worker_context::WorkerContext;
use crate::state::client_connection::ClientConnection;
use crate::time::client_timeouts::TimeoutTracker;

/// Bytes of an answer that the library gets at once.
pub const PIECE_BYTES: usize = 16 << 10;

/// The reason why an answer ends early.
enum SendError {
    /// the client has reset the stream, or its connection has ended
    Left,
    /// the client reads nothing, or too slowly
    Late,
    /// the daemon sent fewer bytes than it announced
    Short,
}

/// Answers one request. Returns whether the connection has to close after it.
pub async fn serve(
    context: Rc<WorkerContext>,
    client: Rc<ClientConnection>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> bool {
    let is_head = request.method() == Method::HEAD;
    let settings = &context.state.config.settings;
    let min_rate = MinRate { grace: settings.timeout.write, rate: settings.limits.response_min_rate };
    let (mut parts, body) = request.into_parts();
    head::request(&mut parts);
    let length = head::length(&parts.headers);
    let wanted = head::expects_continue(&parts.headers).then(Arc::default);
    let body = StreamBody::new(body, length, wanted.clone());
    let request = Request::from_parts(parts, RequestBody::Http2(body));
    let timeouts = Rc::clone(&client.timeouts);
    let handling = Box::pin(request::handle(context, client, request));
    let Some(answer) = answered(&mut respond, handling, wanted, &timeouts).await else { return false };
    let PreparedAnswer { closes, head, body } = PreparedAnswer::new(answer.response, is_head);
    let Ok(stream) = respond.send_response(head, body.is_none()) else { return closes };
    if let Some(body) = body {
        let mut sending = ResponseSender { stream, sent: RateTracker::new(min_rate) };
        match sending.send(body).await {
            Ok(()) | Err(SendError::Left) => (),
            Err(SendError::Late) => {
                tracing::debug!("response aborted: the client reads too slowly");
                sending.stream.send_reset(Reason::CANCEL);
            }
            Err(SendError::Short) => sending.stream.send_reset(Reason::INTERNAL_ERROR),
        }
    }
    closes
}

/// The answer, unless the client resets the stream first. Then the request ends as on a connection whose client has
/// left: it is logged, and the verdict on a credential is still counted. Once the body is `wanted` the client gets 100
/// Continue (RFC 9110 section 10.1.1).
async fn answered<A>(
    respond: &mut SendResponse<Bytes>,
    mut handling: Pin<Box<impl Future<Output = A>>>,
    mut wanted: Option<Arc<AtomicBool>>,
    timeouts: &TimeoutTracker,
) -> Option<A> {
    let mut has_begun = false;
    let answer = poll_fn(|context| {
        if respond.poll_reset(context).is_ready() {
            return Poll::Ready(None);
        }
        has_begun = true;
        let polled = handling.as_mut().poll(context);
        if polled.is_pending() && wanted.take_if(|wanted| wanted.load(Ordering::Relaxed)).is_some() {
            let mut go_on = Response::new(());
            *go_on.status_mut() = StatusCode::CONTINUE;
            if let Err(error) = respond.send_informational(go_on) {
                tracing::debug!(%error, "100 Continue could not be sent");
            }
        }
        polled.map(Some)
    })
    .await;
    if answer.is_none() && has_begun {
        timeouts.mark_client_left();
        drop(handling.await);
    }
    answer
}

/// An answer in the form of this version.
struct PreparedAnswer {
    /// whether the connection must close after it
    closes: bool,
    head: Response<()>,
    body: Option<LoggedBody>,
}

impl PreparedAnswer {
    fn new(answer: Response<LoggedBody>, is_head: bool) -> Self {
        let (mut parts, body) = answer.into_parts();
        parts.version = http::Version::HTTP_2;
        let closes = head::answer(&mut parts, body.size_hint().exact());
        let has_body = !is_head && !head::is_bare(parts.status) && !body.is_end_stream();
        Self { closes, head: Response::from_parts(parts, ()), body: has_body.then_some(body) }
    }
}

/// Sends one answer.
struct ResponseSender {
    stream: SendStream<Bytes>,
    sent: RateTracker,
}

impl ResponseSender {
    /// Polls the body only when the client has room for a part of it.
    async fn send(&mut self, body: LoggedBody) -> Result<(), SendError> {
        let mut body = pin!(body);
        loop {
            self.room(1).await?;
            let frame = tokio::select! {
                biased;
                _ = poll_fn(|context| self.stream.poll_reset(context)) => return Err(SendError::Left),
                frame = poll_fn(|context| body.as_mut().poll_frame(context)) => frame,
            };
            let Some(frame) = frame else {
                return self.stream.send_data(Bytes::new(), true).map_err(|_| SendError::Left);
            };
            let mut data = frame.map_err(|_| SendError::Short)?.into_data().unwrap_or_default();
            let is_last = body.as_ref().get_ref().is_end_stream();
            while !data.is_empty() {
                self.send_some(&mut data, is_last).await?;
                if is_last && data.is_empty() {
                    return Ok(());
                }
            }
        }
    }

    /// Sends as much of `data` as the client's window has room for.
    async fn send_some(&mut self, data: &mut Bytes, is_last: bool) -> Result<(), SendError> {
        let room = self.room(data.len().min(PIECE_BYTES)).await?;
        let piece = data.split_to(room.min(data.len()));
        self.sent.add_bytes(piece.len());
        self.stream.send_data(piece, is_last && data.is_empty()).map_err(|_| SendError::Left)
    }

    /// The number of bytes that the client has room for, from one to `wanted`.
    async fn room(&mut self, wanted: usize) -> Result<usize, SendError> {
        self.stream.reserve_capacity(wanted);
        let began = Instant::now();
        let waiting = async {
            loop {
                let room = self.stream.capacity();
                if room > 0 {
                    return Ok(room);
                }
                match poll_fn(|context| self.stream.poll_capacity(context)).await {
                    Some(Ok(_)) => (),
                    Some(Err(_)) | None => return Err(SendError::Left),
                }
            }
        };
        let room = timeout(self.sent.next_wait(), waiting).await.map_err(|_| SendError::Late)?;
        self.sent.add_wait(began.elapsed());
        room
    }
}
