//! The `[product.auth]` part of a profile: credentials.

use std::path::PathBuf;

use serde::Deserialize;

use super::grammar::{CsrfRules, SignatureScheme, TicketForm};

/// How requests are authenticated (`auth/`).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AuthRules {
    /// name of the cookie with the ticket
    pub cookie: String,
    /// scheme of API tokens in `Authorization`
    pub api_token: Option<String>,
    /// the derivation of CSRF tokens
    pub csrf: CsrfRules,
    /// the reason phrase for every ticket that is refused, independent of the cause
    pub invalid: String,
    /// accepted signature schemes
    pub schemes: Vec<SignatureScheme>,
    /// the page for a refused login in the same format of the API
    pub login_page: Option<String>,
    /// limit of `USER@REALM`, in bytes
    pub user_length: usize,
    /// calls without login, each `METHOD PATH` without parameters
    pub open: Vec<String>,
    /// calls without a CSRF token, each `METHOD PATTERN`
    #[serde(default)]
    pub csrf_exempt: Vec<String>,
    /// calls at which a client can guess credentials
    #[serde(default)]
    pub login: Vec<LoginCall>,
    /// the grammar of tickets
    pub ticket_form: TicketForm,
    /// the kinds of tickets
    pub ticket: Vec<TicketKind>,
}

/// A call whose answer shows whether a credential was right, such as a password or a second factor.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LoginCall {
    /// `METHOD PATTERN`
    pub call: String,
    /// members of the answer, such as `data.ticket`: after a success one of them is a text; empty: the status is enough
    #[serde(default)]
    pub shows: Vec<String>,
}

/// One kind of login ticket. Ages in seconds, both ends exclusive.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TicketKind {
    pub prefix: String,
    pub key: PathBuf,
    /// the key before the last rotation
    pub old_key: Option<PathBuf>,
    /// seconds after which a key is rotated; limits the age of its tickets
    pub key_lifetime: Option<i64>,
    pub min_age: i64,
    /// required unless there is a `lifetime`
    pub max_age: Option<i64>,
    /// the ticket names a mail address; its user is `ADDRESS@REALM`
    pub realm: Option<String>,
    /// reads `max_age`, in days, from a section file
    pub lifetime: Option<LifetimeSource>,
    /// the query parameter of pages that may hold such a ticket if the request has no cookie
    pub link: Option<String>,
}

/// `key` of the first `section` in `file`, in days.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LifetimeSource {
    pub file: PathBuf,
    pub section: String,
    pub key: String,
    pub default: i64,
}
