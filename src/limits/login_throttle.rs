//! Limits login attempts: counts them for all workers, delays their answers without blocking a worker, and logs
//! failures.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::LimitExceeded;
use super::shares::ListenerShare;
use crate::limits::failure_table::{AttemptVerdict, ClientKey, FIRST_DELAY, FailureTable};
use crate::limits::recent_failures::NamedFailures;
use crate::metrics::report::FailedLoginReport;
use crate::os::log_limit::{self, LogTopic};

/// How long an attempt waits for earlier ones. The daemon may take as long for one: a directory service can need 8 s
/// for each while a whole office logs in.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most characters of a user name in the log.
const MAX_NAME_CHARS: usize = 64;

/// Login failures, and the requests that wait because of them.
#[derive(Default)]
pub struct LoginThrottle {
    failures: Mutex<FailureTable>,
    /// notified when an attempt has ended
    ended: Notify,
}

impl LoginThrottle {
    /// Begins an attempt that the daemon will verify. If many come at once, some wait for the others. Returns `None`
    /// if `is_known` returns true during the wait, so there is nothing left to verify.
    pub async fn begin(
        self: &Arc<Self>,
        at: &ListenerShare,
        address: IpAddr,
        limit: usize,
        is_known: impl Fn() -> bool,
    ) -> Result<Option<LoginPermit>, LimitExceeded> {
        let source = ClientKey::from_address(address);
        let until = Instant::now() + QUEUE_TIMEOUT;
        let mut slot = None;
        loop {
            let ended = self.ended.notified();
            if is_known() {
                return Ok(None);
            }
            let verdict = self.failures().begin(source, limit, std::time::Instant::now());
            match verdict {
                AttemptVerdict::Go => {
                    return Ok(Some(LoginPermit { logins: Arc::clone(self), source, limit, failed: true }));
                }
                AttemptVerdict::Refused { retry_after } => return Err(retry_later(retry_after)),
                AttemptVerdict::Wait if slot.is_none() => slot = Some(self.wait_slot(Some(source), at)?),
                AttemptVerdict::Wait => (),
            }
            timeout_at(until, ended).await.map_err(|_| LimitExceeded::LoginQueueTimeout)?;
        }
    }

    /// Counts a failure that nodegate verified itself.
    ///
    /// # Errors
    /// [`LimitExceeded`] if it was one too many.
    pub fn count_failure(&self, address: IpAddr, limit: usize) -> Result<(), LimitExceeded> {
        let (source, now) = (ClientKey::from_address(address), std::time::Instant::now());
        let mut failures = self.failures();
        let refused = failures.rejected_for(source, limit, now);
        failures.count_failure(source, limit, now);
        refused.map_or(Ok(()), |retry_after| Err(retry_later(retry_after)))
    }

    /// Checks whether nodegate still accepts attempts of this address.
    ///
    /// # Errors
    /// [`LimitExceeded`] if it does not.
    pub fn check(&self, address: IpAddr, limit: usize) -> Result<(), LimitExceeded> {
        let refused =
            self.failures().rejected_for(ClientKey::from_address(address), limit, std::time::Instant::now());
        refused.map_or(Ok(()), |retry_after| Err(retry_later(retry_after)))
    }

    /// Delays the answer to a failed attempt, from the beginning of its request. An address that is not counted gets
    /// no more than the first delay.
    pub async fn hold_back(
        &self,
        at: &ListenerShare,
        address: Option<IpAddr>,
        began: Instant,
    ) -> Result<(), LimitExceeded> {
        let source = address.map(ClientKey::from_address);
        let _slot = self.wait_slot(source, at)?;
        sleep_until(began + self.delay(source)).await;
        Ok(())
    }

    /// The same, but a first failure is answered at once.
    pub async fn hold_back_repeated(
        &self,
        at: &ListenerShare,
        address: IpAddr,
        began: Instant,
    ) -> Result<(), LimitExceeded> {
        let source = Some(ClientKey::from_address(address));
        let _slot = self.wait_slot(source, at)?;
        sleep_until(began + self.delay(source).saturating_sub(FIRST_DELAY)).await;
        Ok(())
    }

    /// The same for an address that nodegate rejects, so its client cannot try again without a pause. The result is
    /// that at the end of the delay.
    pub async fn hold_back_refused(
        &self,
        at: &ListenerShare,
        address: IpAddr,
        limit: usize,
        began: Instant,
    ) -> LimitExceeded {
        match self.hold_back(at, Some(address), began).await {
            Ok(()) => self.check(address, limit).err().unwrap_or(LimitExceeded::Failures { seconds: 1 }),
            Err(exceeded) => exceeded,
        }
    }

    /// The clients whose logins failed recently, each with the time for which nodegate rejects further ones.
    pub fn recent_failures(&self, limit: usize, is_masked: bool) -> Vec<FailedLoginReport> {
        let now = std::time::Instant::now();
        let mut failures = self.failures();
        let named = failures.recent().named(is_masked, now);
        let report = |it: NamedFailures| FailedLoginReport {
            client: it.name,
            failures: it.count,
            age: now.saturating_duration_since(it.last).as_secs(),
            rejected_for: failures
                .rejected_for(it.client, limit, now)
                .filter(|_| limit > 0)
                .map(|rest| rest.as_secs() + 1),
        };
        named.into_iter().map(report).collect()
    }

    fn delay(&self, source: Option<ClientKey>) -> Duration {
        source.map_or(FIRST_DELAY, |source| self.failures().delay(source, std::time::Instant::now()))
    }

    fn wait_slot<'s>(
        &'s self,
        source: Option<ClientKey>,
        at: &'s ListenerShare,
    ) -> Result<WaitSlot<'s>, LimitExceeded> {
        self.failures().take_wait_slot(source, at, std::time::Instant::now())?;
        Ok(WaitSlot { logins: self, source, at })
    }

    fn failures(&self) -> MutexGuard<'_, FailureTable> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn retry_later(retry_after: Duration) -> LimitExceeded {
    LimitExceeded::Failures { seconds: retry_after.as_secs() + 1 }
}

/// One login that the daemon is verifying. Dropped, it counts as a failure, because its task may be cut off.
pub struct LoginPermit {
    logins: Arc<LoginThrottle>,
    source: ClientKey,
    limit: usize,
    failed: bool,
}

impl LoginPermit {
    /// Ends the attempt without a failure: the login is good, or the daemon has not verified it.
    pub fn passed(mut self) {
        self.failed = false;
    }
}

impl Drop for LoginPermit {
    fn drop(&mut self) {
        let now = std::time::Instant::now();
        let mut failures = self.logins.failures();
        if self.failed {
            failures.count_failure(self.source, self.limit, now);
        }
        failures.end(self.source, now);
        drop(failures);
        self.logins.ended.notify_waiters();
    }
}

struct WaitSlot<'l> {
    logins: &'l LoginThrottle,
    source: Option<ClientKey>,
    at: &'l ListenerShare,
}

impl Drop for WaitSlot<'_> {
    fn drop(&mut self) {
        self.logins.failures().free_wait_slot(self.source, self.at, std::time::Instant::now());
    }
}

/// Logs a failed login that no daemon has seen under that address. The line has the daemons' own form for fail2ban
/// and others. The client chooses the user name, so characters that could pass for another part of the line are
/// replaced.
pub fn log_auth_failure(address: IpAddr, user: Option<&str>, why: impl std::fmt::Display) {
    let user = sanitized(user.filter(|user| !user.is_empty()).unwrap_or("unknown"));
    let line = format_args!("authentication failure; rhost={address} user={user} msg={why}");
    let site = log_limit::site(address);
    let topic = if site.is_ipv4() { LogTopic::Login } else { LogTopic::LoginIpv6 };
    log_limit::warn(topic, &site.to_string(), &line);
}

fn sanitized(user: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '-' | '_' | '+' | '!');
    user.chars().take(MAX_NAME_CHARS).map(|c| if is_plain(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    // A constant that allocates.
    static AT: LazyLock<ListenerShare> =
        LazyLock::new(|| ListenerShare { listener: "listen".into(), listeners: 1 });

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn an_attempt_waits_for_those_before_it() {
        let logins = Arc::new(LoginThrottle::default());
        run(async {
            let first = logins.begin(&AT, CLIENT, 1, || false).await.unwrap().unwrap();
            let (second, ()) = tokio::join!(logins.begin(&AT, CLIENT, 1, || false), async { first.passed() });
            drop(second.unwrap());
            let third = logins.begin(&AT, CLIENT, 1, || false).await;
            assert!(matches!(third, Err(LimitExceeded::Failures { seconds: 1..=61 })));
        });
    }

    #[test]
    fn credentials_verified_during_the_wait_count_not() {
        let (logins, is_known) = (Arc::new(LoginThrottle::default()), std::cell::Cell::new(false));
        run(async {
            let first = logins.begin(&AT, CLIENT, 1, || false).await.unwrap().unwrap();
            let others = std::iter::repeat_with(|| logins.begin(&AT, CLIENT, 1, || is_known.get()));
            let others = futures_util::future::join_all(others.take(8));
            let (others, ()) = tokio::join!(others, async {
                is_known.set(true);
                first.passed();
            });
            assert!(others.into_iter().all(|other| other.is_ok_and(|attempt| attempt.is_none())));
        });
        assert_eq!(logins.check(CLIENT, 1), Ok(()));
    }

    #[test]
    fn a_cancelled_wait_returns_its_slot() {
        let logins = Arc::new(LoginThrottle::default());
        run(async {
            let _first = logins.begin(&AT, CLIENT, 1, || false).await.unwrap();
            let second = logins.begin(&AT, CLIENT, 1, || false);
            let waits = tokio::time::timeout(Duration::from_millis(20), second).await;
            assert!(waits.is_err());
        });
        for _ in 0..4096 {
            logins.failures().take_wait_slot(None, &AT, std::time::Instant::now()).unwrap();
        }
        assert!(logins.wait_slot(None, &AT).is_err());
    }

    #[test]
    fn user_names_cannot_forge_log_fields() {
        assert_eq!(sanitized("root@pam"), "root@pam");
        assert_eq!(sanitized("x msg=1; rhost=192.0.2.9\n"), "x?msg?1??rhost?192.0.2.9?");
        assert_eq!(sanitized(&"u".repeat(500)).len(), 64);
    }
}
