//! Remembers credentials by a keyed hash: tickets that were good or refused, and API tokens that the daemon accepted.
//! A refused ticket is not verified or counted again, however often a browser sends it.

use openssl::rand::rand_bytes;
use openssl::sha::Sha256;
use quick_cache::sync::Cache;

use super::ticket::TicketError;
use crate::limits::failure_table::ClientKey;

/// Limit of entries of each kind, each little more than 16 bytes; the least recently used go first. Good credentials
/// have their own table, so guesses evict none of them.
const ENTRIES: usize = 8192;

/// 128 bits of a SHA-256 whose first input is a key that no other process has.
type KeyedDigest = [u8; 16];

/// The verdicts on credentials. Outlives a reload.
pub struct CredentialMemory {
    /// without random bytes nothing is remembered
    key: Option<[u8; 32]>,
    good_tickets: Cache<KeyedDigest, ()>,
    refused_tickets: Cache<KeyedDigest, TicketError>,
    good_tokens: Cache<KeyedDigest, ()>,
    doubtful_tokens: Cache<KeyedDigest, ()>,
}

/// A ticket that a client sent, with everything that decides on it.
pub struct ShownTicket<'a> {
    pub ticket: &'a str,
    /// `None` for a client that is not counted
    pub by: Option<ClientKey>,
    /// versions of all keys that may have signed it
    pub(super) key_versions: &'a [u8],
}

impl Default for CredentialMemory {
    fn default() -> Self {
        let mut key = [0; 32];
        let key = rand_bytes(&mut key).is_ok().then_some(key);
        Self {
            key,
            good_tickets: Cache::new(ENTRIES),
            refused_tickets: Cache::new(ENTRIES),
            good_tokens: Cache::new(ENTRIES),
            doubtful_tokens: Cache::new(ENTRIES),
        }
    }
}

impl CredentialMemory {
    /// The error of an earlier verification of this ticket from this client with these keys.
    pub fn refusal(&self, shown: &ShownTicket<'_>) -> Option<TicketError> {
        self.refused_tickets.get(&self.digest_of(shown)?)
    }

    pub fn refuse(&self, shown: &ShownTicket<'_>, error: TicketError) {
        if let Some(digest) = self.digest_of(shown) {
            self.refused_tickets.insert(digest, error);
        }
    }

    /// Whether the ticket was good before, from any client; it may be too old by now.
    pub(super) fn was_good(&self, ticket: &str) -> bool {
        self.digest(&[ticket.as_bytes()]).is_some_and(|digest| self.good_tickets.get(&digest).is_some())
    }

    pub(super) fn remember_good(&self, ticket: &str) {
        if let Some(digest) = self.digest(&[ticket.as_bytes()]) {
            self.good_tickets.insert(digest, ());
        }
    }

    /// Whether the daemon accepted this API token the last time.
    pub(super) fn has_good_token(&self, token: &[u8]) -> bool {
        self.digest(&[token]).is_some_and(|digest| self.good_tokens.get(&digest).is_some())
    }

    pub(super) fn remember_token(&self, token: &[u8], good: bool) {
        let Some(digest) = self.digest(&[token]) else { return };
        if good {
            self.good_tokens.insert(digest, ());
        } else {
            self.good_tokens.remove(&digest);
        }
    }

    /// Stores that an answer did not prove this API token. Returns whether that is new for this client.
    pub(super) fn mark_token_unverified(&self, token: &[u8], by: ClientKey) -> bool {
        let Some(digest) = self.digest(&[&bytes_of(Some(by)), token]) else { return true };
        let is_new = self.doubtful_tokens.get(&digest).is_none();
        self.doubtful_tokens.insert(digest, ());
        is_new
    }

    fn digest_of(&self, shown: &ShownTicket<'_>) -> Option<KeyedDigest> {
        self.digest(&[&bytes_of(shown.by), shown.key_versions, shown.ticket.as_bytes()])
    }

    /// Each part with its length before it.
    fn digest(&self, parts: &[&[u8]]) -> Option<KeyedDigest> {
        let mut hash = Sha256::new();
        hash.update(&self.key?);
        for part in parts {
            hash.update(&u64::try_from(part.len()).ok()?.to_be_bytes());
            hash.update(part);
        }
        hash.finish().first_chunk().copied()
    }
}

fn bytes_of(source: Option<ClientKey>) -> [u8; 9] {
    match source {
        None => [0; 9],
        Some(ClientKey::V4(address)) => {
            let [a, b, c, d] = address.octets();
            [4, a, b, c, d, 0, 0, 0, 0]
        }
        Some(ClientKey::V6(segments)) => {
            let mut by = [6; 9];
            for (byte, value) in by.iter_mut().skip(1).zip(segments.iter().flat_map(|it| it.to_be_bytes())) {
                *byte = value;
            }
            by
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> ClientKey {
        ClientKey::from_address(text.parse().unwrap())
    }

    #[test]
    fn refused_tickets_are_remembered_by_client_and_keys() {
        let memory = CredentialMemory::default();
        let shown = |ticket, by, key_versions| ShownTicket { ticket, by, key_versions };
        let first = shown("T:a", Some(client("192.0.2.1")), b"1");
        assert_eq!(memory.refusal(&first), None);
        memory.refuse(&first, TicketError::Signature);
        assert_eq!(memory.refusal(&first), Some(TicketError::Signature));
        for other in [
            shown("T:b", Some(client("192.0.2.1")), b"1"),
            shown("T:a", Some(client("192.0.2.2")), b"1"),
            shown("T:a", Some(client("2001:db8::1")), b"1"),
            shown("T:a", None, b"1"),
            shown("T:a", Some(client("192.0.2.1")), b"2"),
            shown("1T:a", Some(client("192.0.2.1")), b""),
        ] {
            assert_eq!(memory.refusal(&other), None);
        }
        let elsewhere = CredentialMemory::default();
        assert_ne!(memory.digest(&[b"x"]), elsewhere.digest(&[b"x"]), "each process has its own key");
    }

    #[test]
    fn a_flood_of_refused_tickets_is_bounded() {
        let memory = CredentialMemory::default();
        memory.remember_good("T:good");
        memory.remember_token(b"good", true);
        for number in 0..3 * ENTRIES {
            let ticket = number.to_string();
            let shown = ShownTicket { ticket: &ticket, by: Some(client("192.0.2.1")), key_versions: b"1" };
            memory.refuse(&shown, TicketError::Signature);
        }
        assert!(memory.refused_tickets.len() <= ENTRIES);
        assert!(memory.was_good("T:good") && !memory.was_good("T:other"), "nothing good was displaced");
        assert!(memory.has_good_token(b"good") && !memory.has_good_token(b"other"));
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(client);
        let doubts = [(b"a", one), (b"a", one), (b"a", other), (b"b", one)];
        assert_eq!(
            doubts.map(|(token, by)| memory.mark_token_unverified(token, by)),
            [true, false, true, true]
        );
        memory.remember_token(b"good", false);
        assert!(!memory.has_good_token(b"good"));
    }
}
