//! Recently verified credentials, by the exact bytes of their headers: the next request of the same client costs a
//! table lookup instead of decoding, a public-key operation and encoding.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use quick_cache::sync::Cache;

use super::ticket::VerifiedTicket;

/// Entries for each header. The cache evicts the least used.
const CLIENTS: usize = 2048;
/// Longer headers are not cached, which bounds the memory.
const MAX_HEADER_BYTES: usize = 1024;
/// nodegate verifies a ticket again after this time.
const TICKET_TTL: Duration = Duration::from_mins(1);

/// One good credential.
pub struct CachedCredential {
    /// for the log
    pub user: Arc<str>,
    /// the credential for the daemon, encoded again
    pub header: CredentialHeader,
    /// `None` for an API token, which only the daemon can verify
    pub(super) ticket: Option<CachedTicket>,
    /// an API token that the daemon accepted the last time
    verified: AtomicBool,
    since: Instant,
}

/// A header line with one credential.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct CredentialHeader {
    /// `Cookie` or `Authorization`
    pub name: HeaderName,
    /// marked as sensitive
    pub value: HeaderValue,
}

/// A verified ticket and its kind, by its place in the profile.
#[derive(Clone, Copy)]
pub(super) struct CachedTicket {
    pub(super) kind: usize,
    pub(super) signed: VerifiedTicket,
}

/// The user of a verified ticket.
pub(super) struct TicketUser {
    pub(super) user: String,
    pub(super) ticket: CachedTicket,
}

impl CachedCredential {
    pub(super) fn new(
        user: &str,
        name: HeaderName,
        value: HeaderValue,
        ticket: Option<CachedTicket>,
    ) -> Arc<Self> {
        let verified = AtomicBool::new(false);
        let header = CredentialHeader { name, value };
        Arc::new(Self { user: user.into(), header, ticket, verified, since: Instant::now() })
    }

    /// The kind of ticket, by its index in the profile; `None` for an API token.
    pub fn kind(&self) -> Option<usize> {
        self.ticket.as_ref().map(|ticket| ticket.kind)
    }

    /// Whether the credential has not been verified yet.
    pub fn is_unverified(&self) -> bool {
        self.ticket.is_none() && !self.verified.load(Ordering::Relaxed)
    }

    /// Stores the daemon's verdict on an API token for this client; `Authenticator::set_verified` does so for all.
    pub(super) fn set_verified(&self, good: bool) {
        self.verified.store(good, Ordering::Relaxed);
    }

    /// The daemon verifies an API token each time, so it never expires here.
    fn is_fresh(&self) -> bool {
        self.ticket.is_none() || self.since.elapsed() < TICKET_TTL
    }
}

type CacheTable = Cache<Box<[u8]>, Arc<CachedCredential>>;

/// The credentials of recent requests, by header. Whole texts are compared, so a hash collision admits no client.
pub struct CredentialCache {
    by_cookie: CacheTable,
    by_authorization: CacheTable,
}

impl CredentialCache {
    pub(super) fn new() -> Self {
        Self { by_cookie: Cache::new(CLIENTS), by_authorization: Cache::new(CLIENTS) }
    }

    /// The fresh entry for these headers.
    pub(super) fn find(&self, headers: &HeaderMap) -> Option<Arc<CachedCredential>> {
        let (clients, words) = self.find_table(headers)?;
        clients.get(words).filter(|known| known.is_fresh())
    }

    pub(super) fn remember(&self, headers: &HeaderMap, known: &Arc<CachedCredential>) {
        if let Some((clients, words)) = self.find_table(headers) {
            clients.insert(words.into(), Arc::clone(known));
        }
    }

    /// The table and the key for a request with one line of one of the two headers. Others are rare.
    fn find_table<'h>(&self, headers: &'h HeaderMap) -> Option<(&CacheTable, &'h [u8])> {
        let mut cookies = headers.get_all(COOKIE).iter();
        let mut authorizations = headers.get_all(AUTHORIZATION).iter();
        let (clients, value) = match (cookies.next(), authorizations.next()) {
            (Some(cookie), None) => (&self.by_cookie, cookie),
            (None, Some(authorization)) => (&self.by_authorization, authorization),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        let single = cookies.next().is_none() && authorizations.next().is_none();
        (single && value.len() <= MAX_HEADER_BYTES).then_some((clients, value.as_bytes()))
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
        let known = CachedCredential::new("a@b", COOKIE, HeaderValue::from_static("c=1"), None);
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
        let known = CachedCredential::new("a@b", COOKIE, HeaderValue::from_static("c=1"), None);
        let long = headers(&[(COOKIE, &"c".repeat(MAX_HEADER_BYTES + 1))]);
        clients.remember(&long, &known);
        assert!(clients.find(&long).is_none());
        for number in 0..CLIENTS * 3 {
            clients.remember(&headers(&[(COOKIE, &format!("c={number}"))]), &known);
        }
        assert!(clients.by_cookie.len() <= CLIENTS);
    }
}
