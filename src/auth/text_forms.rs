//! Times, signatures and MACs as text, in the forms that a profile chooses from.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::config::grammar::{MacEncoding, SignatureEncoding, TimeForm};

const HEX_DIGITS: usize = 8;
const MAX_DECIMAL_DIGITS: usize = 12;

/// The Unix time that a text names; `None` if it has not exactly this form.
pub(super) fn read_time(form: TimeForm, text: &str) -> Option<i64> {
    match form {
        TimeForm::Hex8 => {
            let is_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'A'..=b'F');
            let fits = text.len() == HEX_DIGITS && text.bytes().all(is_hex);
            fits.then(|| i64::from_str_radix(text, 16).ok()).flatten()
        }
        TimeForm::Decimal => {
            let fits = text.len() <= MAX_DECIMAL_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
            fits.then(|| text.parse().ok()).flatten()
        }
    }
}

pub(super) fn write_time(form: TimeForm, time: i64) -> String {
    match form {
        TimeForm::Hex8 => format!("{time:08X}"),
        TimeForm::Decimal => time.to_string(),
    }
}

pub(super) fn decode_signature(encoding: SignatureEncoding, text: &str) -> Option<Vec<u8>> {
    match encoding {
        SignatureEncoding::Base64 => STANDARD.decode(text).ok(),
        SignatureEncoding::Base64Url => URL_SAFE_NO_PAD.decode(text).ok(),
    }
}

pub(super) fn encode_mac(encoding: MacEncoding, mac: &[u8]) -> String {
    match encoding {
        MacEncoding::Base64 => STANDARD_NO_PAD.encode(mac),
        MacEncoding::Base64Url => URL_SAFE_NO_PAD.encode(mac),
        MacEncoding::Hex => {
            let digits = mac.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_forms_are_times() {
        for (text, time) in [
            ("6B024400", Some(0x6B02_4400)),
            ("6b024400", None),
            ("6B02440", None),
            ("6B024400 ", None),
            ("+B024400", None),
            ("6B02440G", None),
            ("", None),
        ] {
            assert_eq!(read_time(TimeForm::Hex8, text), time, "{text}");
        }
        for (text, time) in [
            ("1795305472", Some(1_795_305_472)),
            ("0", Some(0)),
            ("-1", None),
            ("+1", None),
            ("1234567890123", None),
            ("", None),
        ] {
            assert_eq!(read_time(TimeForm::Decimal, text), time, "{text}");
        }
    }
}
