//! The keys that encrypt session tickets (RFC 5077 section 4). All workers and all contexts share them, so a client
//! can resume its session with any worker and with a context that is newer than its ticket.
//!
//! OpenSSL would keep such keys in each context for good. Here they change every few hours, and the previous ones
//! still decrypt.

use std::ffi::{CStr, c_int, c_uchar, c_uint};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use foreign_types::ForeignTypeRef as _;
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtxRef;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::rand::rand_bytes;
use openssl::ssl::{SslContext, SslContextBuilder, SslRef, SslVersion};
use openssl_sys as ffi;
use serde::{Deserialize, Serialize};

/// Longer than the lifetime of a ticket, which is two hours in OpenSSL.
const ROTATION_INTERVAL: Duration = Duration::from_hours(12);

const NAME_BYTES: usize = 16;
const IV_BYTES: usize = 16;

/// `OSSL_PARAM_UTF8_STRING` of `openssl/core.h`.
const UTF8_STRING: c_uint = 4;

/// The callback's return values (`SSL_CTX_set_tlsext_ticket_key_evp_cb(3)`).
const FAILED: c_int = -1;
const UNKNOWN: c_int = 0;
const KNOWN: c_int = 1;
/// The ticket is good, and the client gets a new one.
const KNOWN_AND_RENEWED: c_int = 2;

type TicketCallback = unsafe extern "C" fn(
    *mut ffi::SSL,
    *mut c_uchar,
    *mut c_uchar,
    *mut ffi::EVP_CIPHER_CTX,
    *mut ffi::EVP_MAC_CTX,
    c_int,
) -> c_int;

unsafe extern "C" {
    // Part of OpenSSL 3; openssl-sys does not have it.
    fn SSL_CTX_set_tlsext_ticket_key_evp_cb(
        context: *mut ffi::SSL_CTX,
        callback: Option<TicketCallback>,
    ) -> c_int;
}

/// Encrypts and decrypts the tickets of every context that it is installed in. The first ticket makes the first key.
#[derive(Default)]
pub struct TicketKeys {
    ring: RwLock<KeyRing>,
}

#[derive(Default)]
struct KeyRing {
    current: Option<SessionTicketKey>,
    previous: Option<SessionTicketKey>,
}

#[derive(Clone)]
struct SessionTicketKey {
    since: Instant,
    name: [u8; NAME_BYTES],
    cipher: [u8; 32],
    mac: [u8; 32],
}

/// A key that is handed to the process that takes over.
#[derive(Deserialize, Serialize)]
pub struct ExportedKey {
    age: Duration,
    name: [u8; NAME_BYTES],
    cipher: [u8; 32],
    mac: [u8; 32],
}

impl TicketKeys {
    /// The keys that another process exported, the current one first.
    pub fn from_exported(keys: Vec<ExportedKey>, now: Instant) -> Self {
        let mut keys = keys.into_iter().map(|key| SessionTicketKey {
            since: now.checked_sub(key.age).unwrap_or(now),
            name: key.name,
            cipher: key.cipher,
            mac: key.mac,
        });
        let (current, previous) = (keys.next(), keys.next());
        Self { ring: RwLock::new(KeyRing { current, previous }) }
    }

    /// The keys for another process.
    pub fn export(&self, now: Instant) -> Vec<ExportedKey> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let keys = ring.current.iter().chain(&ring.previous);
        let leave = |key: &SessionTicketKey| ExportedKey {
            age: now.saturating_duration_since(key.since),
            name: key.name,
            cipher: key.cipher,
            mac: key.mac,
        };
        keys.map(leave).collect()
    }

    /// Makes the context use these keys for its tickets.
    pub fn install(self: &Arc<Self>, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        context.set_ex_data(INDEX.clone()?, Arc::clone(self));
        // SAFETY: the builder's pointer is that of a live context, and the callback has the type that OpenSSL asks for.
        let set = unsafe { SSL_CTX_set_tlsext_ticket_key_evp_cb(context.as_ptr(), Some(ticket_key)) };
        if set == 1 { Ok(()) } else { Err(ErrorStack::get()) }
    }

    /// The current key; a new one if the current one is due for rotation.
    fn encryption_key(&self, now: Instant) -> Result<SessionTicketKey, ErrorStack> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = ring.current(now) {
            return Ok(key.clone());
        }
        drop(ring);
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = ring.current(now) {
            return Ok(key.clone());
        }
        let key = SessionTicketKey::new(now)?;
        ring.previous = ring.current.replace(key.clone());
        Ok(key)
    }

    /// The key with that name, and whether it is still the current one.
    fn decryption_key(&self, name: &[u8]) -> Option<(SessionTicketKey, bool)> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let named = |key: &Option<SessionTicketKey>| key.as_ref().filter(|key| key.name == name).cloned();
        named(&ring.current).map(|key| (key, true)).or_else(|| named(&ring.previous).map(|key| (key, false)))
    }
}

impl KeyRing {
    /// The current key, unless it is due for rotation.
    fn current(&self, now: Instant) -> Option<&SessionTicketKey> {
        self.current.as_ref().filter(|key| now.saturating_duration_since(key.since) < ROTATION_INTERVAL)
    }
}

impl SessionTicketKey {
    fn new(since: Instant) -> Result<Self, ErrorStack> {
        let mut key = Self { since, name: [0; NAME_BYTES], cipher: [0; 32], mac: [0; 32] };
        rand_bytes(&mut key.name)?;
        rand_bytes(&mut key.cipher)?;
        rand_bytes(&mut key.mac)?;
        Ok(key)
    }
}

/// The slot of a context for its `TicketKeys`. OpenSSL hands out such a slot once for the whole process.
static INDEX: LazyLock<Result<Index<SslContext, Arc<TicketKeys>>, ErrorStack>> =
    LazyLock::new(SslContext::new_ex_index);

/// OpenSSL calls it for the key of a new ticket (`encrypting`), or of one that a client sends.
unsafe extern "C" fn ticket_key(
    ssl: *mut ffi::SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut ffi::EVP_CIPHER_CTX,
    mac: *mut ffi::EVP_MAC_CTX,
    encrypting: c_int,
) -> c_int {
    // SAFETY: OpenSSL hands over pointers that live for the call: of a connection, of 16 bytes of name, of as many of
    // IV (EVP_MAX_IV_LENGTH) and of a cipher context. Nothing else refers to them during the call.
    let (ssl, name, iv, cipher) = unsafe {
        (
            SslRef::from_ptr(ssl),
            &mut *name.cast::<[u8; NAME_BYTES]>(),
            &mut *iv.cast::<[u8; IV_BYTES]>(),
            CipherCtxRef::from_ptr_mut(cipher),
        )
    };
    let keys = INDEX.as_ref().ok().and_then(|index| ssl.ssl_context().ex_data(*index));
    let Some(keys) = keys else { return FAILED };
    let prepared =
        if encrypting == 1 { encrypt(keys, name, iv, cipher) } else { decrypt(keys, name, iv, cipher) };
    // With TLS 1.3 a ticket is for one use, and a client without a new one cannot resume again (RFC 8446, C.4).
    let renew = encrypting == 0 && ssl.version2() == Some(SslVersion::TLS1_3);
    match prepared {
        Ok(Some((key, _))) if renew && set_mac_key(mac, &key.mac) => KNOWN_AND_RENEWED,
        Ok(Some((key, answer))) if set_mac_key(mac, &key.mac) => answer,
        Ok(None) => UNKNOWN,
        Ok(Some(_)) | Err(_) => FAILED,
    }
}

type PreparedCipher = Result<Option<(SessionTicketKey, c_int)>, ErrorStack>;

fn encrypt(
    keys: &TicketKeys,
    name: &mut [u8; NAME_BYTES],
    iv: &mut [u8; IV_BYTES],
    cipher: &mut CipherCtxRef,
) -> PreparedCipher {
    let key = keys.encryption_key(Instant::now())?;
    rand_bytes(iv)?;
    *name = key.name;
    cipher.encrypt_init(Some(Cipher::aes_256_cbc()), Some(&key.cipher), Some(iv))?;
    Ok(Some((key, KNOWN)))
}

fn decrypt(
    keys: &TicketKeys,
    name: &[u8; NAME_BYTES],
    iv: &[u8; IV_BYTES],
    cipher: &mut CipherCtxRef,
) -> PreparedCipher {
    let Some((key, current)) = keys.decryption_key(name) else { return Ok(None) };
    cipher.decrypt_init(Some(Cipher::aes_256_cbc()), Some(&key.cipher), Some(iv))?;
    Ok(Some((key, if current { KNOWN } else { KNOWN_AND_RENEWED })))
}

/// Sets up HMAC-SHA256 with this key.
fn set_mac_key(mac: *mut ffi::EVP_MAC_CTX, key: &[u8; 32]) -> bool {
    const SHA256: &CStr = c"SHA256";
    let digest = ffi::OSSL_PARAM {
        key: c"digest".as_ptr(),
        data_type: UTF8_STRING,
        data: SHA256.as_ptr().cast_mut().cast(),
        data_size: SHA256.count_bytes(),
        return_size: 0,
    };
    // SAFETY: OpenSSL lends `mac` for the call, copies the key, writes to none of the texts, which live for ever, and
    // the list has its end.
    unsafe {
        let parameters = [digest, ffi::OSSL_PARAM_construct_end()];
        ffi::EVP_MAC_init(mac, key.as_ptr(), key.len(), parameters.as_ptr()) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imported_keys_keep_their_age() {
        let keys = TicketKeys::default();
        let start = Instant::now();
        let later = |hours| start + Duration::from_hours(hours);
        let (first, second) =
            (keys.encryption_key(start).unwrap().name, keys.encryption_key(later(13)).unwrap().name);
        let text = serde_json::to_string(&keys.export(later(14))).unwrap();
        let next = TicketKeys::from_exported(serde_json::from_str(&text).unwrap(), later(14));
        assert!(next.decryption_key(&first).is_some_and(|(_, current)| !current));
        assert_eq!(next.encryption_key(later(24)).unwrap().name, second);
        assert_ne!(next.encryption_key(later(26)).unwrap().name, second);
    }

    #[test]
    fn old_tickets_resume_until_the_next_rotation() {
        let keys = TicketKeys::default();
        let start = Instant::now();
        let name = |hours: u64| keys.encryption_key(start + Duration::from_hours(hours)).unwrap().name;
        let first = name(1);
        assert_eq!(name(11), first);
        assert!(keys.decryption_key(&first).is_some_and(|(_, current)| current));
        let second = name(13);
        assert_ne!(second, first);
        assert!(keys.decryption_key(&first).is_some_and(|(_, current)| !current));
        assert!(keys.decryption_key(&second).is_some_and(|(_, current)| current));
        name(26);
        assert!(keys.decryption_key(&first).is_none());
        assert!(keys.decryption_key(&second).is_some());
    }
}
