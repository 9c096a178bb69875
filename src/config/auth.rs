//! The `[product.gate]` part of a profile: credentials.

use std::path::PathBuf;

use serde::Deserialize;

use super::grammar::{CsrfRules, SignatureScheme, TicketForm};

/// Who may pass (`gate/`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthRules {
    pub cookie: String,
    pub api_token: Option<String>,
    pub csrf: CsrfRules,
    /// the reason given for every ticket that is refused, whatever is wrong with it
    pub invalid: String,
    pub schemes: Vec<SignatureScheme>,
    /// the page for a refused login in the same format of the API
    pub login_page: Option<String>,
    /// longest `USER@REALM`, in bytes
    pub user_length: usize,
    /// `METHOD PATH` that need no login, exact
    pub open: Vec<String>,
    /// `METHOD PATTERN` that need no CSRF token
    #[serde(default)]
    pub csrf_exempt: Vec<String>,
    /// calls at which credentials can be guessed, and what shows that one was right
    #[serde(default)]
    pub login: Vec<LoginCall>,
    pub ticket_form: TicketForm,
    pub ticket: Vec<TicketKind>,
}

/// A call whose answer says whether a password, a second factor or the like was right.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginCall {
    /// `METHOD PATTERN`
    pub call: String,
    /// members of the answer, as `data.ticket`, one of which is a text after a success; none: the status is enough
    #[serde(default)]
    pub shows: Vec<String>,
}

/// One kind of login ticket. Ages in seconds, both ends exclusive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketKind {
    pub prefix: String,
    pub key: PathBuf,
    /// the key before the last rotation
    pub old_key: Option<PathBuf>,
    /// seconds after which a key is due for rotation; limits how old a ticket of it may be
    pub key_lifetime: Option<i64>,
    pub min_age: i64,
    /// needed without `lifetime`
    pub max_age: Option<i64>,
    /// the ticket names a mail address; its user is `ADDRESS@REALM`
    pub realm: Option<String>,
    /// read `max_age` in days from a file of sections
    pub lifetime: Option<LifetimeSource>,
    /// the query parameter of a page that may bring such a ticket, where the request has no cookie
    pub link: Option<String>,
}

/// `key` of the first `section` in `file`, in days.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LifetimeSource {
    pub file: PathBuf,
    pub section: String,
    pub key: String,
    pub default: i64,
}
