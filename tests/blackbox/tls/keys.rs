//! Keys and parameters of the tests' own.

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::dh::Dh;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509Name};

/// Certificate and key of 1,024 bits, which OpenSSL's usual security level does not accept.
pub(super) fn weak_pair() -> (String, String) {
    let key = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", "weak.example.com").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(30).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let text = |pem| String::from_utf8(pem).unwrap();
    (text(builder.build().to_pem().unwrap()), text(key.private_key_to_pem_pkcs8().unwrap()))
}

/// Diffie-Hellman parameters: PEM, and the prime in hexadecimal.
pub(super) fn parameters(prime: BigNum) -> (String, String) {
    let hex = prime.to_hex_str().unwrap().to_string().to_lowercase();
    let parameters = Dh::from_pqg(prime, None, BigNum::from_u32(2).unwrap()).unwrap();
    (String::from_utf8(parameters.params_to_pem().unwrap()).unwrap(), hex)
}
