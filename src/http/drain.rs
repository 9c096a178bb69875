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

/// Drains the rest of a body in its own task. `timeouts` are those of the connection.
///
/// If an HTTP/1 client `waits` for a 100, nodegate sends none. The client may send its body all the same (RFC 9110
/// section 10.1.1), so the body is read after the head of the response was sent. That is when the caller drops the
/// returned sender.
///
/// Over HTTP/2 nodegate could reset a stream after its response (RFC 9113 section 8.1). But older clients, such as
/// curl 7.88, then report a broken stream instead of the response.
pub fn start(
    body: Option<RequestBody>,
    waits: bool,
    timeouts: &Rc<TimeoutTracker>,
) -> Option<oneshot::Sender<()>> {
    let mut body = body?;
    let waits = match &mut body {
        RequestBody::Http2(body) => {
            body.suppress_continue();
            false
        }
        RequestBody::Http1(_) | RequestBody::Whole(_) => waits,
    };
    if body.is_end_stream() {
        return None;
    }
    let (answers, answered) = oneshot::channel();
    let answers = waits.then_some(answers);
    let draining = TimeoutTracker::draining(timeouts);
    tokio::task::spawn_local(async move {
        let _draining = draining;
        // An earlier poll would make the library send a 100. Without a sender this ends at once.
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
