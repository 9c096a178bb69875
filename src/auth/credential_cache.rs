//! Clients that passed a moment ago, known again by their very words: the next request of the same client costs a look
//! in a table instead of decoding, a public-key operation and encoding.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use quick_cache::sync::Cache;

use super::ticket::VerifiedTicket;

/// Clients that are remembered for each way to send a credential; the least seen go first.
const CLIENTS: usize = 2048;
/// A header longer than this is judged anew each time, so that nobody fills the memory.
const LONGEST: usize = 1024;
/// After this a ticket is judged anew.
const LIFE: Duration = Duration::from_mins(1);

/// One good credential.
pub struct CachedCredential {
    /// for the log
    pub user: Arc<str>,
    /// the credential as it is sent on, built anew
    pub header: (HeaderName, HeaderValue),
    /// none for an API token, which only the daemon can judge
    pub(crate) ticket: Option<CachedTicket>,
    /// an API token that the daemon has not refused the last time
    verified: AtomicBool,
    since: Instant,
}

/// Which kind of ticket it was, and what has to be judged again.
pub(crate) struct CachedTicket {
    pub(crate) kind: usize,
    pub(crate) signed: VerifiedTicket,
}

impl CachedCredential {
    pub(crate) fn new(
        user: &str,
        header: (HeaderName, HeaderValue),
        ticket: Option<CachedTicket>,
    ) -> Arc<Self> {
        let verified = AtomicBool::new(false);
        Arc::new(Self { user: user.into(), header, ticket, verified, since: Instant::now() })
    }

    /// The kind of ticket, by its place in the profile; `None` for an API token.
    pub fn kind(&self) -> Option<usize> {
        self.ticket.as_ref().map(|ticket| ticket.kind)
    }

    /// Whether nobody has said yet that the credential is good.
    pub fn is_unverified(&self) -> bool {
        self.ticket.is_none() && !self.verified.load(Ordering::Relaxed)
    }

    /// What the daemon thinks of an API token; for all clients by `Gate::prove`.
    pub(crate) fn set_verified(&self, good: bool) {
        self.verified.store(good, Ordering::Relaxed);
    }

    /// An API token is judged by the daemon each time.
    fn is_fresh(&self) -> bool {
        self.ticket.is_none() || self.since.elapsed() < LIFE
    }
}

type CacheTable = Cache<Box<[u8]>, Arc<CachedCredential>>;

/// Who sent what lately. A text is compared as a whole, so a hash that collides admits nobody.
pub(crate) struct CredentialCache {
    by_cookie: CacheTable,
    by_authorization: CacheTable,
}

impl CredentialCache {
    pub(crate) fn new() -> Self {
        Self { by_cookie: Cache::new(CLIENTS), by_authorization: Cache::new(CLIENTS) }
    }

    /// The client that sent these headers not long ago.
    pub(crate) fn find(&self, headers: &HeaderMap) -> Option<Arc<CachedCredential>> {
        let (clients, words) = self.place(headers)?;
        clients.get(words).filter(|known| known.is_fresh())
    }

    pub(crate) fn remember(&self, headers: &HeaderMap, known: &Arc<CachedCredential>) {
        if let Some((clients, words)) = self.place(headers) {
            clients.insert(words.into(), Arc::clone(known));
        }
    }

    /// Requests with one line of one of the two headers; others are rare.
    fn place<'h>(&self, headers: &'h HeaderMap) -> Option<(&CacheTable, &'h [u8])> {
        let mut cookies = headers.get_all(COOKIE).iter();
        let mut authorizations = headers.get_all(AUTHORIZATION).iter();
        let (clients, value) = match (cookies.next(), authorizations.next()) {
            (Some(cookie), None) => (&self.by_cookie, cookie),
            (None, Some(authorization)) => (&self.by_authorization, authorization),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        let single = cookies.next().is_none() && authorizations.next().is_none();
        (single && value.len() <= LONGEST).then_some((clients, value.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn only_identical_credentials_hit_the_cache() {
        let clients = CredentialCache::new();
        let sent = headers(&[(COOKIE, "c=1")]);
        let known = CachedCredential::new("a@b", (COOKIE, HeaderValue::from_static("c=1")), None);
        clients.remember(&sent, &known);
        assert_eq!(&*clients.find(&sent).unwrap().user, "a@b");
        for other in [
            headers(&[(COOKIE, "c=2")]),
            headers(&[(AUTHORIZATION, "c=1")]),
            headers(&[(COOKIE, "c=1"), (AUTHORIZATION, "x")]),
            headers(&[(COOKIE, "c=1"), (COOKIE, "c=1")]),
            headers(&[]),
        ] {
            assert!(clients.find(&other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn the_cache_bounds_header_length_and_clients() {
        let clients = CredentialCache::new();
        let known = CachedCredential::new("a@b", (COOKIE, HeaderValue::from_static("c=1")), None);
        let long = headers(&[(COOKIE, &"c".repeat(LONGEST + 1))]);
        clients.remember(&long, &known);
        assert!(clients.find(&long).is_none());
        for number in 0..CLIENTS * 3 {
            clients.remember(&headers(&[(COOKIE, &format!("c={number}"))]), &known);
        }
        assert!(clients.by_cookie.len() <= CLIENTS);
    }
}
