//! Single flight: if one client sends the same call several times at once, as the windows of its GUI do, the daemon
//! answers it once. Only an answer on its way is shared. A call after that answer goes to the daemon again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, SET_COOKIE};
use http::{HeaderValue, Method, Response, response};
use hyper::ext::ReasonPhrase;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::api::ApiCall;
use crate::auth::credential_cache::CredentialHeader;
use crate::config::Config;
use crate::http::body::{self, ResponseBody};
use crate::http::compression::ContentCoding;
use crate::http::error::ResponseError;
use crate::http::path_pattern::PathPattern;
use crate::metrics::counters::Metrics;
use crate::upstream::client::UpstreamError;
use crate::upstream::scheduler::QueueError;

/// Bytes of a shared answer. It stays in memory until its slowest client has read it.
pub(super) const MAX_SHARED_BYTES: usize = 256 << 10;

/// The calls of a profile that may be shared, and the running calls of all workers.
pub struct SharedCalls {
    patterns: Vec<PathPattern>,
    running: Mutex<HashMap<CoalesceKey, watch::Receiver<CoalescedOutcome>>>,
    /// requests that shared the answer to another
    coalesced: Counter,
}

/// Everything that decides on the daemon's answer. The request's number and the CSRF token do not, because no GET needs
/// them.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) struct CoalesceKey {
    target: String,
    host: Option<HeaderValue>,
    client: HeaderValue,
    credential: CredentialHeader,
    coding: Option<ContentCoding>,
}

/// The outcome of a call, for its followers.
#[derive(Clone)]
enum CoalescedOutcome {
    Running,
    Answer(Arc<(response::Parts, Bytes)>),
    Failed(UpstreamError),
    /// the daemon has no worker for it
    Saturated(QueueError),
    /// every follower has to send its own call
    Unshared,
}

/// The role of a call among the calls with its key.
enum CoalesceRole<'a> {
    Leads(Box<LeaderGuard<'a>>),
    Follows(watch::Receiver<CoalescedOutcome>),
}

/// Guard of the leader. Dropping it publishes the outcome to the followers.
struct LeaderGuard<'a> {
    calls: &'a SharedCalls,
    key: CoalesceKey,
    followers: watch::Sender<CoalescedOutcome>,
    outcome: Option<CoalescedOutcome>,
}

impl SharedCalls {
    /// `None` if the settings disable sharing.
    pub fn new(config: &Config, metrics: &Metrics) -> Result<Option<Self>, String> {
        let parse = |text: &String| match text.split_once(' ') {
            Some(("GET", _)) => PathPattern::parse(text),
            _ => Err(format!("product.coalesce: '{text}': write GET /path/{{parameter}}")),
        };
        let patterns = config.product.coalesce.iter().map(parse).collect::<Result<_, _>>()?;
        let coalesced = metrics.requests_coalesced.clone();
        let calls = Self { patterns, running: Mutex::default(), coalesced };
        Ok(config.settings.backend.coalesce.then_some(calls))
    }

    /// The key of a call. `None` if it is not shared: the profile does not list it, or its credential is unverified.
    pub(super) fn key(&self, call: &ApiCall<'_>, coding: Option<ContentCoding>) -> Option<CoalesceKey> {
        let matches = |pattern: &PathPattern| pattern.matches("GET", call.source.path.segments());
        if call.head.method != Method::GET || !self.patterns.iter().any(matches) {
            return None;
        }
        let known = call.identity.client.as_ref().filter(|known| !known.is_unverified())?;
        Some(CoalesceKey {
            target: call.target.clone(),
            host: call.head.headers.get(HOST).cloned(),
            client: call.client.clone(),
            credential: known.header.clone(),
            coding,
        })
    }

    /// The answer of the running call with this key, otherwise of `call`. Waits at most `limit` for the running call.
    pub(super) async fn send_once(
        &self,
        key: CoalesceKey,
        limit: Duration,
        call: impl AsyncFnOnce() -> Result<Response<ResponseBody>, ResponseError>,
    ) -> Result<Response<ResponseBody>, ResponseError> {
        let until = Instant::now() + limit;
        loop {
            let mut answer = match self.join(&key) {
                CoalesceRole::Leads(mut leader) => {
                    let answer = call().await;
                    leader.outcome = Some(CoalescedOutcome::from_answer(&answer));
                    return answer;
                }
                CoalesceRole::Follows(answer) => answer,
            };
            let is_done = |outcome: &CoalescedOutcome| !matches!(outcome, CoalescedOutcome::Running);
            let outcome = match timeout_at(until, answer.wait_for(is_done)).await {
                Ok(Ok(outcome)) => outcome.clone(),
                // The leader's client has left, or its worker has ended. One of the followers becomes the leader.
                Ok(Err(_)) => continue,
                Err(_) => CoalescedOutcome::Unshared,
            };
            if !matches!(outcome, CoalescedOutcome::Unshared) {
                self.coalesced.inc();
            }
            return match outcome {
                CoalescedOutcome::Answer(shared) => {
                    Ok(Response::from_parts(shared.0.clone(), body::full(shared.1.clone())))
                }
                CoalescedOutcome::Failed(error) => Err(error.into()),
                CoalescedOutcome::Saturated(error) => Err(error.into()),
                CoalescedOutcome::Running | CoalescedOutcome::Unshared => call().await,
            };
        }
    }

    fn join(&self, key: &CoalesceKey) -> CoalesceRole<'_> {
        match self.running().entry(key.clone()) {
            Entry::Occupied(running) => CoalesceRole::Follows(running.get().clone()),
            Entry::Vacant(place) => {
                let (followers, receiver) = watch::channel(CoalescedOutcome::Running);
                place.insert(receiver);
                CoalesceRole::Leads(Box::new(LeaderGuard {
                    calls: self,
                    key: key.clone(),
                    followers,
                    outcome: None,
                }))
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<CoalesceKey, watch::Receiver<CoalescedOutcome>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LeaderGuard<'_> {
    fn drop(&mut self) {
        self.calls.running().remove(&self.key);
        if let Some(outcome) = self.outcome.take() {
            let _ = self.followers.send(outcome);
        }
    }
}

impl CoalescedOutcome {
    /// A whole answer that sets no cookie is shared, and so is a daemon's failure.
    fn from_answer(answer: &Result<Response<ResponseBody>, ResponseError>) -> Self {
        match answer {
            Ok(response) => match response.body() {
                ResponseBody::Full(bytes) if !response.headers().contains_key(SET_COOKIE) => {
                    let mut shared = Response::new(());
                    *shared.status_mut() = response.status();
                    *shared.headers_mut() = response.headers().clone();
                    let reason = response.extensions().get::<ReasonPhrase>().cloned();
                    reason.and_then(|reason| shared.extensions_mut().insert(reason));
                    Self::Answer(Arc::new((shared.into_parts().0, bytes.clone())))
                }
                ResponseBody::Full(_) | ResponseBody::Streamed(_) => Self::Unshared,
            },
            Err(ResponseError::Upstream(error)) => Self::Failed(error.clone()),
            Err(ResponseError::Saturated(error)) => Self::Saturated(error.clone()),
            Err(_) => Self::Unshared,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use http_body_util::BodyExt as _;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn calls() -> SharedCalls {
        SharedCalls { patterns: Vec::new(), running: Mutex::default(), coalesced: Counter::default() }
    }

    fn key(target: &str) -> CoalesceKey {
        let value = HeaderValue::from_static;
        let credential = CredentialHeader { name: http::header::COOKIE, value: value("a=b") };
        CoalesceKey {
            target: target.to_owned(),
            host: None,
            client: value("192.0.2.1"),
            credential,
            coding: None,
        }
    }

    async fn text(answer: Result<Response<ResponseBody>, ResponseError>) -> String {
        let bytes = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// A slow answer with the number of answers before it.
    async fn number(asked: &Cell<usize>) -> Result<Response<ResponseBody>, ResponseError> {
        let number = asked.replace(asked.get() + 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(Response::new(body::full(number.to_string())))
    }

    #[tokio::test]
    async fn equal_calls_are_sent_once() {
        let (calls, asked) = (calls(), Cell::new(0));
        let ask = |target| calls.send_once(key(target), LIMIT, async || number(&asked).await);
        let (first, second, other) = tokio::join!(ask("/a"), ask("/a"), ask("/b"));
        assert_eq!(
            (text(first).await, text(second).await, text(other).await),
            ("0".into(), "0".into(), "1".into())
        );
        assert_eq!(text(ask("/a").await).await, "2", "nothing is kept");
        assert!(calls.running().is_empty());
    }

    #[tokio::test]
    async fn a_follower_takes_over_from_a_lost_leader() {
        let (calls, asked) = (calls(), Cell::new(0));
        let leaves = calls.send_once(key("/a"), LIMIT, async || pending().await);
        let stays = async {
            tokio::task::yield_now().await;
            calls.send_once(key("/a"), LIMIT, async || number(&asked).await).await
        };
        let leaves = tokio::time::timeout(Duration::from_millis(50), leaves);
        let (left, first, second) = tokio::join!(leaves, stays, async {
            tokio::task::yield_now().await;
            calls.send_once(key("/a"), LIMIT, async || number(&asked).await).await
        });
        assert!(left.is_err());
        assert_eq!((text(first).await, text(second).await, asked.get()), ("0".into(), "0".into(), 1));
    }

    #[tokio::test]
    async fn waiting_for_the_leader_has_a_limit() {
        let (calls, asked) = (calls(), Cell::new(0));
        let CoalesceRole::Leads(_stuck) = calls.join(&key("/a")) else { unreachable!() };
        let answer =
            calls.send_once(key("/a"), Duration::from_millis(20), async || number(&asked).await).await;
        assert_eq!(text(answer).await, "0");
    }

    #[tokio::test]
    async fn a_shared_answer_keeps_its_reason_phrase() {
        let calls = calls();
        let phrase = "no such user ('m\u{fc}ller')".as_bytes();
        let ask = || {
            calls.send_once(key("/a"), LIMIT, async || {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let mut answer = Response::new(body::full("x"));
                answer.extensions_mut().insert(ReasonPhrase::try_from(phrase).unwrap());
                Ok(answer)
            })
        };
        let (first, second) = tokio::join!(ask(), ask());
        for answer in [first.unwrap(), second.unwrap()] {
            assert_eq!(answer.extensions().get::<ReasonPhrase>().unwrap().as_bytes(), phrase);
        }
    }

    #[tokio::test]
    async fn an_answer_with_a_cookie_is_not_shared() {
        let (calls, asked) = (calls(), Cell::new(0));
        let ask = || {
            calls.send_once(key("/a"), LIMIT, async || {
                let mut answer = number(&asked).await?;
                answer.headers_mut().insert(SET_COOKIE, HeaderValue::from_static("a=c"));
                Ok(answer)
            })
        };
        let (first, second) = tokio::join!(ask(), ask());
        assert_eq!((text(first).await, text(second).await), ("0".into(), "1".into()));
    }
}
