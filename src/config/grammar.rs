//! The grammar of a product's API, tickets and CSRF tokens: closed sets from which a profile chooses.
//!
//! No key here has a default. A profile that leaves one out does not load, so that no check depends on a guess.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// `[product.api]`: the paths of API calls.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ApiRules {
    /// the path that all calls begin with
    pub prefix: String,
    /// for an API with one format, whose paths do not name it
    pub format: Option<ErrorFormat>,
    /// for an API whose paths name the format behind the prefix: the names, and the form of an error in each
    #[serde(default)]
    pub formats: BTreeMap<String, ErrorFormat>,
    /// the form of errors in formats that `formats` does not list; without it such paths are not calls
    pub other_formats: Option<ErrorFormat>,
}

/// The format of an answer that reports a failure.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorFormat {
    /// pages and files
    Text,
    /// `{"data":null,"message":…}`
    Json,
    /// JSON with `success` and `status`; the HTTP status is 200 where clients read only the body
    StatusInBody,
}

/// `[product.auth.ticket_form]`: how the fields of a login ticket are written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TicketForm {
    /// `prefix` first, then `user` and `time` in either order
    pub fields: Vec<TicketField>,
    pub separator: String,
    pub time: TimeForm,
    /// between the signed text and the signature
    pub signature_separator: String,
    pub signature: SignatureEncoding,
    /// the forms of the user field after the first of two factors
    pub half_logins: Vec<HalfLogin>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum TicketField {
    Prefix,
    User,
    Time,
}

/// How a Unix time is written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum TimeForm {
    /// 8 upper-case hexadecimal digits
    Hex8,
    /// 1 to 12 digits
    Decimal,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum SignatureEncoding {
    /// with padding (RFC 4648 section 4)
    Base64,
    /// without padding (RFC 4648 section 5)
    Base64Url,
}

/// The user field of a login that lacks its second factor.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct HalfLogin {
    pub prefix: String,
    /// The end of a field that means a complete login despite the prefix; the user is in between.
    pub complete: Option<String>,
}

/// Signature schemes, tried in the profile's order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureScheme {
    /// RSA, PKCS #1 v1.5 with SHA-1
    Pkcs1Sha1,
    /// RSA, PKCS #1 v1.5 with SHA-256
    Pkcs1Sha256,
    /// RSA, PSS with SHA-256
    PssSha256,
    /// RFC 8032, without a context
    Ed25519,
}

/// `[product.auth.csrf]`: the token that a write with a ticket needs, `TIME SEPARATOR MAC` over `TIME SEPARATOR USER`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CsrfRules {
    pub header: String,
    /// file with the secret
    pub secret: PathBuf,
    pub key: CsrfKey,
    pub mac: CsrfMac,
    pub encoding: MacEncoding,
    pub separator: String,
    pub time: TimeForm,
    /// seconds, both ends exclusive
    pub min_age: i64,
    pub max_age: i64,
}

/// How the key is derived from the file of the secret.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum CsrfKey {
    /// the base64 text of an HMAC-SHA256 whose key is the file and whose message is empty
    HmacOfFile,
    /// the bytes of the file
    File,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum CsrfMac {
    HmacSha256,
    HmacSha512,
}

/// No encoding has padding.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum MacEncoding {
    Base64,
    Base64Url,
    /// lower-case
    Hex,
}

/// The protocol that a console call switches to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum UpgradeProtocol {
    /// RFC 6455
    Websocket,
}
