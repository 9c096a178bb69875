//! Drains a body that no handler reads while the answer is sent. Otherwise the client's system would discard the
//! answer.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::http::request_body::RequestBody;
use crate::time::client_timeouts::TimeoutTracker;

/// Many clients read the answer only after they have sent everything, so bodies up to `MAX_BYTES` are drained.
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BYTES: usize = 1 << 30;
/// Timeout without a byte. The connection and its buffers are held for as long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Drains the rest of a body in its own task. `clock` is that of the connection. A client of HTTP/1 that `waits` to
/// be told to go on is not told, but may send its body all the same (RFC 9110 section 10.1.1): its body is taken in
/// from when the head of the answer is out, which is when what is given back is dropped.
///
/// Over HTTP/2 a stream could be given up behind its answer (RFC 9113 section 8.1), but older clients, curl 7.88
/// among them, then tell their users of a broken stream instead of the answer.
pub fn start(
    body: Option<RequestBody>,
    waits: bool,
    clock: &Rc<TimeoutTracker>,
) -> Option<oneshot::Sender<()>> {
    let mut body = body?;
    let waits = match &mut body {
        RequestBody::Http2(body) => {
            body.tell_nothing();
            false
        }
        RequestBody::Http1(_) | RequestBody::Whole(_) => waits,
    };
    if body.is_end_stream() {
        return None;
    }
    let (answers, answered) = oneshot::channel();
    let answers = waits.then_some(answers);
    let draining = TimeoutTracker::draining(clock);
    tokio::task::spawn_local(async move {
        let _draining = draining;
        // Asked for earlier, the library would tell the client to go on. Without a sender this ends at once.
        let _ = answered.await;
        let mut left = MAX_BYTES;
        let _ = timeout(TIMEOUT, async {
            while let Ok(Some(Ok(frame))) = timeout(IDLE_TIMEOUT, body.frame()).await {
                left = left.checked_sub(frame.data_ref().map_or(0, Bytes::len))?;
            }
            Some(())
        })
        .await;
    });
    answers
}
