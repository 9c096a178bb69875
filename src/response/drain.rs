//! A body that nobody wants is taken in beside the answer; else the client's system would throw the answer away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::incoming::RequestBody;

/// Many clients read the answer only after they have sent everything: uploads of this size get theirs.
const TIME: Duration = Duration::from_secs(30);
const BYTES: usize = 1 << 30;

/// Takes in what still comes, in a task of its own. Nothing of it is kept. `clock` is the connection's. A client of HTTP/1
/// that `waits` to be told to go on has sent nothing, and is not told.
///
/// Over HTTP/2 a stream could be given up behind its answer (RFC 9113 section 8.1), but older clients, curl 7.88 among
/// them, then tell their users of a broken stream instead of the answer.
pub fn start(body: Option<RequestBody>, waits: bool, clock: &Arc<Clock>) {
    let Some(mut body) = body else { return };
    if let RequestBody::Http2(body) = &mut body {
        body.tell_nothing();
    } else if waits {
        return;
    }
    if body.is_end_stream() {
        return;
    }
    let draining = Clock::draining(clock);
    tokio::task::spawn_local(async move {
        let _draining = draining;
        let mut left = BYTES;
        let _ = timeout(TIME, async {
            while let Some(Ok(frame)) = body.frame().await {
                left = left.checked_sub(frame.data_ref().map_or(0, Bytes::len))?;
            }
            Some(())
        })
        .await;
    });
}
