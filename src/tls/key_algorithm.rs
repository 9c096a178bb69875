//! Names of the signature algorithms that OpenSSL has since version 3.5.

/// `2.16.840.1.101.3.4.3`, NIST's signature algorithms, as the beginning of a DER object identifier of nine bytes.
const NIST_SIGNATURES: [u8; 10] = [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03];
/// A PKCS#8 key and a public key have their identifier within so many bytes.
const SEARCHED_BYTES: usize = 40;

/// The name of a post-quantum algorithm, from the DER form of a private or public key.
pub(super) fn post_quantum_name(der: &[u8]) -> Option<&'static str> {
    let head = der.get(..SEARCHED_BYTES.min(der.len()))?;
    let length = NIST_SIGNATURES.len();
    let found = head.windows(length + 1).find(|window| window.starts_with(&NIST_SIGNATURES))?;
    match found.last()? {
        0x11 => Some("ML-DSA-44"),
        0x12 => Some("ML-DSA-65"),
        0x13 => Some("ML-DSA-87"),
        0x14..=0x1f => Some("SLH-DSA"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A public key begins with two sequences, a private key with a version in addition.
    #[test]
    fn post_quantum_names_are_found_by_identifier() {
        let key = |head: &[u8], last: u8| [head, &NIST_SIGNATURES, &[last, 0x03, 0x82]].concat();
        let public = [0x30, 0x82, 0x07, 0xb2, 0x30, 0x0b];
        let private = [0x30, 0x82, 0x0f, 0xee, 0x02, 0x01, 0x00, 0x30, 0x0b];
        for (last, name) in [
            (0x11, Some("ML-DSA-44")),
            (0x12, Some("ML-DSA-65")),
            (0x13, Some("ML-DSA-87")),
            (0x14, Some("SLH-DSA")),
            (0x1f, Some("SLH-DSA")),
            (0x02, None),
            (0x20, None),
        ] {
            assert_eq!(post_quantum_name(&key(&public, last)), name);
            assert_eq!(post_quantum_name(&key(&private, last)), name);
            assert_eq!(post_quantum_name(&key(&[0; SEARCHED_BYTES], last)), None);
        }
        assert_eq!(post_quantum_name(&[]), None);
        assert_eq!(post_quantum_name(&NIST_SIGNATURES), None);
    }
}
