//! The request that the running task works for. Every line that the task logs names it.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::futures::TaskLocalFuture;

use crate::os::unix_time::unix_time;

// tracing calls its one subscriber without a context, so the subscriber reads it from the task.
tokio::task_local! {
    static CURRENT: Rc<LogContext>;
}

/// The name of this node, for the same subscriber.
static NODE: OnceLock<String> = OnceLock::new();
/// The next request number: a number is unique within the process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A request number of this process, and an id of the process.
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

/// Seconds of the start mixed with the process id. Two processes of a day have the same value in one case of a
/// million.
fn process() -> u64 {
    // One value for the whole process.
    static PROCESS: OnceLock<u64> = OnceLock::new();
    *PROCESS.get_or_init(|| {
        let seconds = unix_time(SystemTime::now()).cast_unsigned();
        (seconds ^ (u64::from(std::process::id()) << 20)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
    })
}

/// The fields of a request in log lines.
pub struct LogContext {
    pub id: RequestId,
    pub client: IpAddr,
    user: OnceCell<Arc<str>>,
    /// only if the log records it
    upstream: Option<Box<Cell<UpstreamCall>>>,
    queue: Cell<QueueTime>,
}

/// The time that a request has waited for a worker of a daemon.
#[derive(Clone, Copy, Default)]
struct QueueTime {
    /// of earlier waits; `None` if there was none
    total: Option<Duration>,
    /// start of the current wait
    began: Option<Instant>,
}

/// The upstream of a call and the time of the call.
#[derive(Default)]
struct UpstreamCall {
    name: String,
    began: Option<Instant>,
    answered: Option<Instant>,
}

impl LogContext {
    /// With `upstream` it records the upstream of each call.
    pub fn new(client: IpAddr, upstream: bool) -> Self {
        let upstream = upstream.then(Box::default);
        let queue = Cell::default();
        Self { id: RequestId::next(), client, user: OnceCell::new(), upstream, queue }
    }

    pub fn user(&self) -> Option<&str> {
        self.user.get().map(AsRef::as_ref)
    }

    /// The upstream of the last call, and the time until the head of its response, or until now.
    pub fn upstream(&self) -> Option<(String, Duration)> {
        let UpstreamCall { name, began, answered } = self.upstream.as_ref()?.take();
        let took = answered.unwrap_or_else(Instant::now).duration_since(began?);
        Some((name, took))
    }

    /// The time in queues of the daemons. `None` if no call of the request needed a worker.
    pub fn queued(&self) -> Option<Duration> {
        let QueueTime { total, began } = self.queue.get();
        let current = began.map(|began| began.elapsed());
        total.map_or(current, |total| Some(total + current.unwrap_or_default()))
    }

    fn change_upstream(&self, change: impl FnOnce(&mut UpstreamCall)) {
        if let Some(cell) = &self.upstream {
            let mut asked = cell.take();
            change(&mut asked);
            cell.set(asked);
        }
    }
}

/// Runs `work`; every line that it logs names the request.
pub fn within<F: Future>(context: LogContext, work: F) -> TaskLocalFuture<Rc<LogContext>, F> {
    CURRENT.scope(Rc::new(context), work)
}

/// Runs `work` in another task for the request of `share`.
pub async fn shared<F: Future>(context: Option<Rc<LogContext>>, work: F) -> F::Output {
    match context {
        Some(context) => CURRENT.scope(context, work).await,
        None => work.await,
    }
}

/// The current request, for `shared`.
pub fn share() -> Option<Rc<LogContext>> {
    CURRENT.try_with(Rc::clone).ok()
}

pub fn set_user(user: Option<&Arc<str>>) {
    if let Some(user) = user {
        let _ = CURRENT.try_with(|context| context.user.set(Arc::clone(user)));
    }
}

/// Records that the current request waits for this upstream.
pub fn begin_upstream_call(upstream: &impl fmt::Display) {
    current(|context| {
        context.change_upstream(|asked| {
            *asked = UpstreamCall { name: upstream.to_string(), began: Some(Instant::now()), answered: None };
        });
    });
}

/// Records that the head of the upstream's response was read.
pub fn end_upstream_call() {
    current(|context| context.change_upstream(|asked| asked.answered = Some(Instant::now())));
}

/// Records that the current request waits for a worker. Dropping the guard ends the wait.
pub fn begin_queue() -> QueueGuard {
    current(|context| {
        let time = context.queue.get();
        context.queue.set(QueueTime { began: Some(Instant::now()), ..time });
    });
    QueueGuard(())
}

/// Records that the current request has got a worker, perhaps without a wait.
pub fn pass_queue() {
    current(|context| {
        context.queue.set(QueueTime { total: context.queued().or(Some(Duration::ZERO)), began: None });
    });
}

/// A wait of the current request.
pub struct QueueGuard(());

impl Drop for QueueGuard {
    fn drop(&mut self) {
        current(|context| context.queue.set(QueueTime { total: context.queued(), began: None }));
    }
}

/// Whether the current request waits for a worker, so that no daemon has seen its call.
pub fn is_queued() -> bool {
    current(|context| context.queue.get().began.is_some()).unwrap_or_default()
}

/// Calls `work` with the current request, if there is one.
pub fn current<T>(work: impl FnOnce(&LogContext) -> T) -> Option<T> {
    CURRENT.try_with(|context| work(context)).ok()
}

pub fn current_id() -> Option<RequestId> {
    current(|context| context.id)
}

/// Sets the name of this node for the journal.
pub fn set_node_name(name: &str) {
    let _ = NODE.set(name.to_owned());
}

pub fn node() -> Option<&'static str> {
    NODE.get().map(String::as_str)
}

#[cfg(test)]
mod tests {
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
            set_user(Some(&Arc::from("root@pam")));
            begin_upstream_call(&"192.0.2.9:85");
            end_upstream_call();
            current(|context| {
                let upstream = context.upstream().map(|(name, _)| name);
                (context.client, context.user().map(str::to_owned), upstream)
            })
        });
        let known = (client, Some("root@pam".to_owned()), Some("192.0.2.9:85".to_owned()));
        assert_eq!(seen.await, Some(known));
        assert_eq!(current_id(), None);
        let kept = within(LogContext::new(client, false), async {
            begin_upstream_call(&"192.0.2.9:85");
            current(|context| context.upstream().is_some())
        });
        assert_eq!(kept.await, Some(false), "the log does not record it");
    }

    #[tokio::test]
    async fn times_in_queues_are_summed() {
        let queued = || current(LogContext::queued).flatten();
        let wait = || {
            let queue = begin_queue();
            assert!(is_queued());
            std::thread::sleep(Duration::from_millis(2));
            drop(queue);
        };
        within(LogContext::new("192.0.2.7".parse().unwrap(), false), async {
            assert_eq!((queued(), is_queued()), (None, false));
            wait();
            let first = queued().unwrap();
            wait();
            assert!(!is_queued() && first >= Duration::from_millis(2));
            assert!(queued().unwrap() >= first + Duration::from_millis(2));
        })
        .await;
        assert!(!is_queued());
    }
}
