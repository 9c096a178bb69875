//! Calls that one client asks several times at once, as the windows of its GUI do, answered by the daemon once. Only an
//! answer on its way is shared: who asks when it is there makes the daemon answer anew.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, SET_COOKIE};
use http::{HeaderName, HeaderValue, Method, Response, response};
use hyper::ext::ReasonPhrase;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::api::ApiCall;
use crate::config::Config;
use crate::http::body;
use crate::http::body::ResponseBody;
use crate::http::compression::ContentCoding;
use crate::http::error::Refusal;
use crate::http::path_pattern::PathPattern;
use crate::metrics::counters;
use crate::upstream::client::UpstreamError;

/// Bytes of an answer that is shared, and held until the slowest who shares it has taken it.
pub(super) const LARGEST: usize = 256 << 10;

/// The calls of a profile that may be shared, and those of all workers that are under way.
pub struct SharedCalls {
    patterns: Vec<PathPattern>,
    running: Mutex<HashMap<CoalesceKey, watch::Receiver<CoalescedOutcome>>>,
}

/// All that the daemon is told but the number of the request, and the CSRF token, which no GET needs: calls that agree in it
/// have the same answer.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) struct CoalesceKey {
    target: String,
    host: Option<HeaderValue>,
    client: HeaderValue,
    credential: (HeaderName, HeaderValue),
    coding: Option<ContentCoding>,
}

/// What came of a call.
#[derive(Clone)]
enum CoalescedOutcome {
    Running,
    Answer(Arc<(response::Parts, Bytes)>),
    Failed(UpstreamError),
    /// everybody has to ask
    Unshared,
}

/// What a call is among those that agree with it.
enum CoalesceRole<'a> {
    Leads(Box<LeaderGuard<'a>>),
    Follows(watch::Receiver<CoalescedOutcome>),
}

/// Asks for all; when it is dropped the others are told.
struct LeaderGuard<'a> {
    calls: &'a SharedCalls,
    key: CoalesceKey,
    followers: watch::Sender<CoalescedOutcome>,
    outcome: Option<CoalescedOutcome>,
}

impl SharedCalls {
    /// `None` where nothing is shared.
    pub fn new(config: &Config) -> Result<Option<Self>, String> {
        let parse = |text: &String| match text.split_once(' ') {
            Some(("GET", _)) => PathPattern::parse(text),
            _ => Err(format!("product.coalesce: '{text}': write GET /path/{{parameter}}")),
        };
        let patterns = config.product.coalesce.iter().map(parse).collect::<Result<_, _>>()?;
        let calls = Self { patterns, running: Mutex::default() };
        Ok(config.settings.backend.coalesce.then_some(calls))
    }

    /// What tells a call from others, if it is one that is shared: of somebody who is known to be good.
    pub(super) fn key(&self, call: &ApiCall<'_>, coding: Option<ContentCoding>) -> Option<CoalesceKey> {
        let matches = |pattern: &PathPattern| pattern.matches("GET", call.place.path.segments());
        if call.head.method != Method::GET || !self.patterns.iter().any(matches) {
            return None;
        }
        let known = call.identity.client.as_ref().filter(|known| !known.is_unproven())?;
        Some(CoalesceKey {
            target: call.target.clone(),
            host: call.head.headers.get(HOST).cloned(),
            client: call.client.clone(),
            credential: known.header.clone(),
            coding,
        })
    }

    /// The answer of the same call that is under way already, or else of `call`. Waits for others `patience` at most.
    pub(super) async fn ask(
        &self,
        key: CoalesceKey,
        patience: Duration,
        call: impl AsyncFnOnce() -> Result<Response<ResponseBody>, Refusal>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let until = Instant::now() + patience;
        loop {
            let mut answer = match self.join(&key) {
                CoalesceRole::Leads(mut lead) => {
                    let answer = call().await;
                    lead.outcome = Some(CoalescedOutcome::of(&answer));
                    return answer;
                }
                CoalesceRole::Follows(answer) => answer,
            };
            let is_there = |outcome: &CoalescedOutcome| !matches!(outcome, CoalescedOutcome::Running);
            let outcome = match timeout_at(until, answer.wait_for(is_there)).await {
                Ok(Ok(outcome)) => outcome.clone(),
                // The client that asked has left, or its worker has ended: somebody else asks.
                Ok(Err(_)) => continue,
                Err(_) => CoalescedOutcome::Unshared,
            };
            if !matches!(outcome, CoalescedOutcome::Unshared) {
                counters::coalesced();
            }
            return match outcome {
                CoalescedOutcome::Answer(shared) => {
                    Ok(Response::from_parts(shared.0.clone(), body::full(shared.1.clone())))
                }
                CoalescedOutcome::Failed(error) => Err(error.into()),
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

/// From now on the next one asks anew.
impl Drop for LeaderGuard<'_> {
    fn drop(&mut self) {
        self.calls.running().remove(&self.key);
        if let Some(outcome) = self.outcome.take() {
            let _ = self.followers.send(outcome);
        }
    }
}

impl CoalescedOutcome {
    /// An answer that is there as a whole, and sets no cookie, or a daemon that gave none.
    fn of(answer: &Result<Response<ResponseBody>, Refusal>) -> Self {
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
            Err(Refusal::Upstream(error)) => Self::Failed(error.clone()),
            Err(_) => Self::Unshared,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;
    use std::future::pending;

    use http_body_util::BodyExt as _;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn calls() -> SharedCalls {
        SharedCalls { patterns: Vec::new(), running: Mutex::default() }
    }

    fn key(target: &str) -> CoalesceKey {
        let value = HeaderValue::from_static;
        let credential = (http::header::COOKIE, value("a=b"));
        CoalesceKey {
            target: target.to_owned(),
            host: None,
            client: value("192.0.2.1"),
            credential,
            coding: None,
        }
    }

    async fn text(answer: Result<Response<ResponseBody>, Refusal>) -> String {
        let bytes = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// An answer that takes a while, and says how many came before it.
    async fn number(asked: &Cell<usize>) -> Result<Response<ResponseBody>, Refusal> {
        let number = asked.replace(asked.get() + 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(Response::new(body::full(number.to_string())))
    }

    #[tokio::test]
    async fn the_same_call_is_made_once_and_another_by_itself() {
        let (calls, asked) = (calls(), Cell::new(0));
        let ask = |target| calls.ask(key(target), PATIENCE, async || number(&asked).await);
        let (first, second, other) = tokio::join!(ask("/a"), ask("/a"), ask("/b"));
        assert_eq!(
            (text(first).await, text(second).await, text(other).await),
            ("0".into(), "0".into(), "1".into())
        );
        assert_eq!(text(ask("/a").await).await, "2", "nothing is kept");
        assert!(calls.running().is_empty());
    }

    #[tokio::test]
    async fn who_follows_one_that_leaves_asks_itself() {
        let (calls, asked) = (calls(), Cell::new(0));
        let leaves = calls.ask(key("/a"), PATIENCE, async || pending().await);
        let stays = async {
            tokio::task::yield_now().await;
            calls.ask(key("/a"), PATIENCE, async || number(&asked).await).await
        };
        let leaves = tokio::time::timeout(Duration::from_millis(50), leaves);
        let (left, first, second) = tokio::join!(leaves, stays, async {
            tokio::task::yield_now().await;
            calls.ask(key("/a"), PATIENCE, async || number(&asked).await).await
        });
        assert!(left.is_err());
        assert_eq!((text(first).await, text(second).await, asked.get()), ("0".into(), "0".into(), 1));
    }

    #[tokio::test]
    async fn nobody_waits_for_others_for_ever() {
        let (calls, asked) = (calls(), Cell::new(0));
        let CoalesceRole::Leads(_stuck) = calls.join(&key("/a")) else { unreachable!() };
        let answer = calls.ask(key("/a"), Duration::from_millis(20), async || number(&asked).await).await;
        assert_eq!(text(answer).await, "0");
    }

    #[tokio::test]
    async fn a_shared_answer_has_its_phrase() {
        let calls = calls();
        let phrase = "no such user ('m\u{fc}ller')".as_bytes();
        let ask = || {
            calls.ask(key("/a"), PATIENCE, async || {
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
    async fn an_answer_that_sets_a_cookie_is_for_one_client() {
        let (calls, asked) = (calls(), Cell::new(0));
        let ask = || {
            calls.ask(key("/a"), PATIENCE, async || {
                let mut answer = number(&asked).await?;
                answer.headers_mut().insert(SET_COOKIE, HeaderValue::from_static("a=c"));
                Ok(answer)
            })
        };
        let (first, second) = tokio::join!(ask(), ask());
        assert_eq!((text(first).await, text(second).await), ("0".into(), "1".into()));
    }
}
