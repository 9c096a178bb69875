//! Which request the running task works for, so that every line it logs can tell.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::futures::TaskLocalFuture;

tokio::task_local! {
    static CURRENT: Rc<LogContext>;
}

static NEXT: AtomicU64 = AtomicU64::new(1);
static NODE: OnceLock<String> = OnceLock::new();

/// A number of this process, and what tells processes apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestId(u64);

impl RequestId {
    fn next() -> Self {
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:05x}-{:x}", process() & 0xf_ffff, self.0)
    }
}

/// Seconds of the start and the process id, mixed: two processes of a day have the same in one case of a million.
fn process() -> u64 {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    *PROCESS.get_or_init(|| {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        (seconds ^ (u64::from(std::process::id()) << 20)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
    })
}

/// A request as log lines name it.
pub struct LogContext {
    pub id: RequestId,
    pub client: IpAddr,
    user: OnceCell<Arc<str>>,
    /// kept only for a log that tells of it
    upstream: Option<Box<Cell<UpstreamCall>>>,
}

/// Who was asked for the answer, and when.
#[derive(Default)]
struct UpstreamCall {
    name: String,
    began: Option<Instant>,
    answered: Option<Instant>,
}

impl LogContext {
    /// With `upstream` it is kept who is asked for the answer.
    pub fn new(client: IpAddr, upstream: bool) -> Self {
        let upstream = upstream.then(Box::default);
        Self { id: RequestId::next(), client, user: OnceCell::new(), upstream }
    }

    pub fn user(&self) -> Option<&str> {
        self.user.get().map(AsRef::as_ref)
    }

    /// The last that was asked, and how long the head of its answer took, or has taken by now.
    pub fn upstream(&self) -> Option<(String, Duration)> {
        let UpstreamCall { name, began, answered } = self.upstream.as_ref()?.take();
        let took = answered.unwrap_or_else(Instant::now).duration_since(began?);
        Some((name, took))
    }

    fn change_upstream(&self, change: impl FnOnce(&mut UpstreamCall)) {
        if let Some(cell) = &self.upstream {
            let mut asked = cell.take();
            change(&mut asked);
            cell.set(asked);
        }
    }
}

/// Whatever `work` logs is about that request.
pub fn within<F: Future>(context: LogContext, work: F) -> TaskLocalFuture<Rc<LogContext>, F> {
    CURRENT.scope(Rc::new(context), work)
}

/// `work` in a task of its own, for the request that the running task works for.
pub async fn shared<F: Future>(context: Option<Rc<LogContext>>, work: F) -> F::Output {
    match context {
        Some(context) => CURRENT.scope(context, work).await,
        None => work.await,
    }
}

/// For `shared`.
pub fn share() -> Option<Rc<LogContext>> {
    CURRENT.try_with(Rc::clone).ok()
}

/// From now on it is known who asks.
pub fn identify(user: Option<&Arc<str>>) {
    if let Some(user) = user {
        let _ = CURRENT.try_with(|context| context.user.set(Arc::clone(user)));
    }
}

/// From now on this one is waited for.
pub fn asks(upstream: &impl fmt::Display) {
    current(|context| {
        context.change_upstream(|asked| {
            *asked = UpstreamCall { name: upstream.to_string(), began: Some(Instant::now()), answered: None };
        });
    });
}

/// The head of its answer is there.
pub fn is_answered() {
    current(|context| context.change_upstream(|asked| asked.answered = Some(Instant::now())));
}

/// The request being worked for, if one is.
pub fn current<T>(work: impl FnOnce(&LogContext) -> T) -> Option<T> {
    CURRENT.try_with(|context| work(context)).ok()
}

pub fn current_id() -> Option<RequestId> {
    current(|context| context.id)
}

/// How this node is called, for the journal.
pub fn name_node(name: &str) {
    let _ = NODE.set(name.to_owned());
}

pub fn node() -> Option<&'static str> {
    NODE.get().map(String::as_str)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_have_ids_of_their_own() {
        let (first, second) = (RequestId::next().to_string(), RequestId::next().to_string());
        assert_ne!(first, second);
        let is_id = |text: &str| text.len() >= 7 && text.split('-').count() == 2;
        assert!(is_id(&first) && is_id(&second), "{first} {second}");
    }

    #[tokio::test]
    async fn request_context_stays_within_its_request() {
        let client = "192.0.2.7".parse().unwrap();
        let seen = within(LogContext::new(client, true), async {
            identify(Some(&Arc::from("root@pam")));
            asks(&"192.0.2.9:85");
            is_answered();
            current(|context| {
                let upstream = context.upstream().map(|(name, _)| name);
                (context.client, context.user().map(str::to_owned), upstream)
            })
        });
        let known = (client, Some("root@pam".to_owned()), Some("192.0.2.9:85".to_owned()));
        assert_eq!(seen.await, Some(known));
        assert_eq!(current_id(), None);
        let kept = within(LogContext::new(client, false), async {
            asks(&"192.0.2.9:85");
            current(|context| context.upstream().is_some())
        });
        assert_eq!(kept.await, Some(false), "nobody wants to know");
    }
}
