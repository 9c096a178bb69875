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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]
    use super::*;

    const FILE: &[u8] = include_bytes!("../../tests/data/vectors/pve-www.key");
    const VECTORS: &str = include_str!("../../tests/data/vectors/tickets.tsv");
    const MADE: i64 = 0x6B02_4400;

    fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
        VECTORS.lines().filter_map(|line| line.strip_prefix("csrf\t")?.split_once('\t'))
    }

    #[test]
    fn the_secret_is_the_text_of_an_hmac() {
        let expected = VECTORS.lines().find_map(|line| line.strip_prefix("csrf_secret\t")).unwrap();
        assert_eq!(secret_of(FILE).unwrap(), expected);
    }

    #[test]
    fn tokens_of_the_original_are_good_until_they_are_two_hours_old() {
        let secret = secret_of(FILE).unwrap();
        assert_eq!(rows().count(), 4);
        for (user, token) in rows() {
            for (age, good) in [(-300, false), (-299, true), (0, true), (7199, true), (7200, false)] {
                assert_eq!(is_valid(token, user, &secret, MADE + age), good, "{user} {age}");
            }
        }
    }

    #[test]
    fn a_minted_token_is_the_one_the_original_makes() {
        let secret = secret_of(FILE).unwrap();
        for (user, token) in rows() {
            assert_eq!(mint(user, &secret, MADE).unwrap(), token);
        }
    }

    #[test]
    fn a_token_is_good_for_its_user_alone_and_as_it_was_made() {
        let secret = secret_of(FILE).unwrap();
        let (user, token) = rows().next().unwrap();
        assert!(!is_valid(token, "other@pam", &secret, MADE));
        assert!(!is_valid(token, user, "another secret", MADE));
        for at in 0..token.len() {
            let mut changed = token.as_bytes().to_vec();
            changed[at] ^= 1;
            assert!(!is_valid(&String::from_utf8_lossy(&changed), user, &secret, MADE), "byte {at}");
        }
        for wrong in ["", ":", "6B024400", "6B024400:", &token[..token.len() - 1], &format!("{token}=")] {
            assert!(!is_valid(wrong, user, &secret, MADE), "{wrong}");
        }
    }
}
