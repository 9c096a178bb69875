//! The CSRF prevention token `HHHHHHHH:BASE64`: who may write with a ticket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::PKey;
use openssl::sign::Signer;

const MIN_AGE: i64 = -300;
const MAX_AGE: i64 = 7200;

/// The secret of CSRF tokens and SPICE tickets: base64 text of an HMAC whose key is the whole file and whose
/// message is empty.
pub fn secret_of(file: &[u8]) -> Result<String, String> {
    if file.is_empty() {
        return Err("is empty".to_owned());
    }
    hmac_sha256(file, b"").map(|mac| STANDARD_NO_PAD.encode(mac)).map_err(|error| error.to_string())
}

/// A token for `user`, made with `secret` at Unix time `now`.
pub fn mint(user: &str, secret: &str, now: i64) -> Result<String, ErrorStack> {
    let time = format!("{now:08X}");
    let mac = hmac_sha256(secret.as_bytes(), format!("{time}:{user}").as_bytes())?;
    Ok(format!("{time}:{}", STANDARD_NO_PAD.encode(mac)))
}

/// Whether `token` was made for `user` with `secret` and is fresh at Unix time `now`.
pub fn is_valid(token: &str, user: &str, secret: &str, now: i64) -> bool {
    let Some((time, signature)) = token.split_once(':') else { return false };
    if time.len() != 8 || !time.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()) {
        return false;
    }
    let Ok(made) = i64::from_str_radix(time, 16) else { return false };
    let age = now - made;
    MIN_AGE < age
        && age < MAX_AGE
        && hmac_sha256(secret.as_bytes(), format!("{time}:{user}").as_bytes()).is_ok_and(|mac| {
            let expected = STANDARD_NO_PAD.encode(mac);
            // memcmp::eq panics on unequal lengths
            expected.len() == signature.len() && memcmp::eq(expected.as_bytes(), signature.as_bytes())
        })
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::hmac(key)?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    signer.update(message)?;
    signer.sign_to_vec()
}
