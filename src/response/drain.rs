//! A body that nobody wants is taken in beside the answer; else the client's system would throw the answer away.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

/// How much is taken in before the connection closes.
#[derive(Clone, Copy)]
pub struct Drain {
    pub time: Duration,
    pub bytes: usize,
}

impl Drain {
    /// Takes in what still comes, in a task of its own. Nothing of it is kept.
    pub fn start(self, body: Option<Incoming>) {
        let Some(mut body) = body.filter(|body| !body.is_end_stream()) else { return };
        tokio::task::spawn_local(async move {
            let mut left = self.bytes;
            let _ = timeout(self.time, async {
                while let Some(Ok(frame)) = body.frame().await {
                    left = left.checked_sub(frame.data_ref().map_or(0, Bytes::len))?;
                }
                Some(())
            })
            .await;
        });
    }
}
