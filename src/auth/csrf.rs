//! The CSRF prevention token, `TIME SEPARATOR MAC`, which a write with a ticket needs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use super::text_forms::{encode_mac, read_time, write_time};
use crate::config::grammar::{CsrfKey, CsrfMac, CsrfRules};

/// A key shorter than the output of the MAC weakens it (RFC 2104 section 3).
const MIN_KEY_BYTES: usize = 32;

/// Makes the key of the MAC from the contents of the secret's file.
type KeyParser = fn(&[u8]) -> Result<Vec<u8>, String>;

/// The function that derives the key from the secret's file.
pub(super) fn key_parser(key: CsrfKey) -> KeyParser {
    match key {
        CsrfKey::HmacOfFile => |file| secret_text(file).map(String::into_bytes),
        CsrfKey::File => |file| match file.len() {
            0..MIN_KEY_BYTES => Err(format!("is shorter than {MIN_KEY_BYTES} bytes")),
            _ => Ok(file.to_vec()),
        },
    }
}

/// The base64 text of an HMAC-SHA256 whose key is the whole file and whose message is empty.
///
/// # Errors
///
/// The file is empty, or OpenSSL fails.
pub fn secret_text(file: &[u8]) -> Result<String, String> {
    if file.is_empty() {
        return Err("is empty".to_owned());
    }
    let mac = hmac(MessageDigest::sha256(), file, b"");
    mac.map(|mac| STANDARD_NO_PAD.encode(mac)).map_err(|error| error.to_string())
}

/// A token for `user`, made with `key` at Unix time `now`.
///
/// # Errors
///
/// OpenSSL fails.
pub fn mint(user: &str, key: &[u8], rules: &CsrfRules, now: i64) -> Result<String, ErrorStack> {
    let time = write_time(rules.time, now);
    let mac = text_of_mac(&time, user, key, rules)?;
    Ok(format!("{time}{}{mac}", rules.separator))
}

/// Whether `token` was made for `user` with `key` and is fresh at Unix time `now`.
pub fn is_valid(token: &str, user: &str, key: &[u8], rules: &CsrfRules, now: i64) -> bool {
    let Some((time, mac)) = token.split_once(rules.separator.as_str()) else { return false };
    let Some(made) = read_time(rules.time, time) else { return false };
    let age = now - made;
    rules.min_age < age
        && age < rules.max_age
        && text_of_mac(time, user, key, rules).is_ok_and(|expected| {
            // memcmp::eq panics on unequal lengths
            expected.len() == mac.len() && memcmp::eq(expected.as_bytes(), mac.as_bytes())
        })
}

fn text_of_mac(time: &str, user: &str, key: &[u8], rules: &CsrfRules) -> Result<String, ErrorStack> {
    let digest = match rules.mac {
        CsrfMac::HmacSha256 => MessageDigest::sha256(),
        CsrfMac::HmacSha512 => MessageDigest::sha512(),
    };
    let message = [time, &rules.separator, user].concat();
    Ok(encode_mac(rules.encoding, &hmac(digest, key, message.as_bytes())?))
}

fn hmac(digest: MessageDigest, key: &[u8], message: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::hmac(key)?;
    let mut signer = Signer::new(digest, &key)?;
    signer.update(message)?;
    signer.sign_to_vec()
}
