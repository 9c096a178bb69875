//! Step 5: who asks, and may they? The daemon behind runs as root and checks no CSRF token, so this gate must.

pub mod credential;
pub mod csrf;
pub mod ticket;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, Method};
use openssl::pkey::{PKey, Public};

use crate::config::product;
use crate::config::root::Root;
use crate::config::sections;
use crate::pattern::Pattern;
use crate::target::{ApiPath, query_value};
use crate::upstream::nodes::NodeFile;
use crate::watched_file::{FileError, Snapshot, WatchedFile};
use credential::{Credential, Names};
use ticket::{DatedKey, Rules, TicketError};

const DAY: i64 = 86_400;

/// The rules of a profile, with the files they need.
pub struct Gate {
    rules: product::Gate,
    csrf_header: HeaderName,
    csrf_exempt: Vec<Pattern>,
    csrf_secret: WatchedFile<String>,
    tickets: Vec<TicketFiles>,
    nodes: Arc<NodeFile>,
}

/// One kind of ticket and the files that decide on it.
struct TicketFiles {
    kind: product::TicketKind,
    key: WatchedFile<PKey<Public>>,
    old_key: Option<WatchedFile<PKey<Public>>>,
    lifetime: Option<WatchedFile<String>>,
}

/// Who asks: what is written to the log, and what is sent on.
#[derive(Clone, Default)]
pub struct Identity {
    pub user: Option<String>,
    pub credential: Option<Credential>,
    /// the CSRF token that came with a ticket, as it came
    pub csrf_token: Option<String>,
}

/// Who looks at a page, and the token for what the page asks in turn.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Login {
    pub user: String,
    pub csrf_token: String,
}

/// Why a request does not pass. `Ticket` says to the log what the client is not told.
#[derive(Debug, thiserror::Error)]
pub enum Denial {
    #[error("No ticket")]
    NoCredential,
    #[error("ticket refused: {0}")]
    Ticket(TicketError),
    #[error("the API token has no valid form")]
    ApiToken,
    #[error("Permission denied - invalid csrf token")]
    Csrf,
    #[error("cannot judge tickets: {0}")]
    KeyFile(#[from] FileError),
}

impl Gate {
    pub fn new(rules: product::Gate, root: &Root, nodes: Arc<NodeFile>) -> Result<Self, String> {
        let csrf_header = rules
            .csrf_header
            .parse()
            .map_err(|_| format!("product.gate.csrf_header: '{}' is no header name", rules.csrf_header))?;
        let csrf_exempt =
            rules.csrf_exempt.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
        let tickets = rules.ticket.iter().map(|kind| TicketFiles::new(kind.clone(), root)).collect();
        let csrf_secret = WatchedFile::new(root.path(&rules.csrf_secret), csrf::secret_of);
        Ok(Self { rules, csrf_header, csrf_exempt, csrf_secret, tickets, nodes })
    }

    /// Whether the call needs no login: the exact decoded path, `/access/ticket/` is another one.
    pub fn is_open(&self, method: &Method, path: &ApiPath) -> bool {
        let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
        self.rules.open.iter().any(|open| {
            open.split_once(' ')
                .is_some_and(|(verb, open_path)| verb == method && open_path == path.decoded())
        })
    }

    /// Judges the one credential of the request.
    pub fn pass(
        &self,
        method: &Method,
        path: &ApiPath,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Identity, Denial> {
        if self.is_open(method, path) {
            return Ok(Identity::default());
        }
        let names = Names { cookie: &self.rules.cookie, api_token: self.rules.api_token.as_deref() };
        let cookies = joined(headers, &COOKIE);
        match credential::take(names, &cookies, &joined(headers, &AUTHORIZATION)) {
            None => Err(Denial::NoCredential),
            Some(Credential::ApiToken(token)) => {
                if !credential::is_api_token(&token) {
                    return Err(Denial::ApiToken);
                }
                let user = Some(credential::api_token_id(&token).to_owned());
                Ok(Identity { user, credential: Some(Credential::ApiToken(token)), csrf_token: None })
            }
            Some(Credential::Ticket(ticket)) => {
                let user = self.user_of(&ticket, now)?;
                let csrf_token = self.check_csrf(method, path, headers, &user, now)?;
                Ok(Identity { user: Some(user), credential: Some(Credential::Ticket(ticket)), csrf_token })
            }
        }
    }

    /// Who a page is for: the user of a good ticket in the cookie or, where the request has no cookie at all, in the
    /// link that was clicked. Refuses nobody: without a good ticket the page asks for a login.
    pub fn page_login(&self, headers: &HeaderMap, query: &str, now: SystemTime) -> Option<Login> {
        let user = if headers.contains_key(COOKIE) {
            let ticket = credential::value_of(&self.rules.cookie, &joined(headers, &COOKIE))?;
            self.user_of(&ticket, now)
        } else {
            self.user_of_link(query, now)?
        };
        let user = user.map_err(|denial| tracing::debug!(%denial, "a page without login")).ok()?;
        let secret =
            self.csrf_secret.current().map_err(|error| tracing::error!(%error, "no CSRF token")).ok()?;
        let csrf_token = csrf::mint(&user, &secret.value, unix(now)).ok()?;
        Some(Login { user, csrf_token })
    }

    fn user_of_link(&self, query: &str, now: SystemTime) -> Option<Result<String, Denial>> {
        let (files, ticket) = self.tickets.iter().find_map(|files| {
            let ticket = query_value(query, files.kind.link.as_deref()?)?;
            // A ticket holds no space: what looks like one is a plus sign that the mail did not encode.
            Some((files, ticket.replace(' ', "+")))
        })?;
        Some(match files.verify(&ticket, &self.rules, &self.nodes, now) {
            Ok(judged) => judged.map_err(Denial::Ticket),
            Err(error) => Err(Denial::KeyFile(error)),
        })
    }

    /// Where a refused login of this (raw) path is sent instead.
    pub fn login_page(&self, path: &str) -> Option<&str> {
        let page = self.rules.login_page.as_deref()?;
        let format = |path: &str| path.strip_prefix("/api2/")?.split('/').next().map(str::to_owned);
        (format(path)? == format(page)?).then_some(page)
    }

    /// The reason that every refused ticket gets.
    pub fn invalid_reason(&self) -> &str {
        &self.rules.invalid
    }

    pub fn cookie_name(&self) -> &str {
        &self.rules.cookie
    }

    pub fn api_token_name(&self) -> Option<&str> {
        self.rules.api_token.as_deref()
    }

    pub fn csrf_header(&self) -> &HeaderName {
        &self.csrf_header
    }

    /// Looks at every file once, for `check` and for the start.
    pub fn file_errors(&self) -> Vec<FileError> {
        let secret = self.csrf_secret.current().err();
        let keys = self.tickets.iter().filter_map(|files| files.key.current().err());
        secret.into_iter().chain(keys).collect()
    }

    fn user_of(&self, ticket: &str, now: SystemTime) -> Result<String, Denial> {
        let mut failure = TicketError::Form;
        for files in &self.tickets {
            let named = ticket.strip_prefix(&files.kind.prefix).is_some_and(|rest| rest.starts_with(':'));
            if !named {
                continue;
            }
            match files.verify(ticket, &self.rules, &self.nodes, now)? {
                Ok(user) => return Ok(user),
                Err(error) => failure = error,
            }
        }
        Err(Denial::Ticket(failure))
    }

    fn check_csrf(
        &self,
        method: &Method,
        path: &ApiPath,
        headers: &HeaderMap,
        user: &str,
        now: SystemTime,
    ) -> Result<Option<String>, Denial> {
        let mut tokens = headers.get_all(&self.csrf_header).iter();
        let token = tokens.next().and_then(|value| value.to_str().ok()).map(str::to_owned);
        let reads = *method == Method::GET || *method == Method::HEAD;
        if reads || self.csrf_exempt.iter().any(|pattern| pattern.matches(method.as_str(), path.segments())) {
            return Ok(token);
        }
        let secret = self.csrf_secret.current()?.value;
        match token {
            Some(token) if tokens.next().is_none() && csrf::is_valid(&token, user, &secret, unix(now)) => {
                Ok(Some(token))
            }
            _ => Err(Denial::Csrf),
        }
    }
}

impl TicketFiles {
    fn new(kind: product::TicketKind, root: &Root) -> Self {
        Self {
            key: WatchedFile::new(root.path(&kind.key), public_key),
            old_key: kind.old_key.as_ref().map(|path| WatchedFile::new(root.path(path), public_key)),
            lifetime: kind.lifetime.as_ref().map(|at| WatchedFile::new(root.path(&at.file), plain_text)),
            kind,
        }
    }

    fn verify(
        &self,
        ticket: &str,
        rules: &product::Gate,
        nodes: &NodeFile,
        now: SystemTime,
    ) -> Result<Result<String, TicketError>, FileError> {
        let current = self.key.current()?;
        let old = match self.old_key.as_ref().map(WatchedFile::current).transpose() {
            Err(error) if error.is_missing() => Ok(None),
            read => read,
        };
        let current = dated(&current, now);
        let overdue = self.kind.key_lifetime.is_some_and(|lifetime| current.age > lifetime);
        let rules = Rules {
            prefix: &self.kind.prefix,
            schemes: &rules.schemes,
            current,
            old: old.as_ref().ok().and_then(Option::as_ref).map(|old| dated(old, now)),
            min_age: self.kind.min_age,
            max_age: self.max_age()?,
            key_lifetime: self.kind.key_lifetime,
            quorate: overdue && nodes.current().is_ok_and(|table| table.quorate),
            realm: self.kind.realm.as_deref(),
            user_length: rules.user_length,
        };
        match (ticket::verify(ticket, &rules, unix(now)), old) {
            // The key that cannot be read might have fitted.
            (Err(TicketError::Signature | TicketError::Age), Err(error)) => Err(error),
            (judged, _) => Ok(judged),
        }
    }

    /// Seconds; from the file of sections where the profile names one.
    fn max_age(&self) -> Result<i64, FileError> {
        let (Some(at), Some(file)) = (&self.kind.lifetime, &self.lifetime) else {
            return Ok(self.kind.max_age);
        };
        let text = match file.current() {
            Ok(snapshot) => snapshot.value,
            Err(error) if error.is_missing() => return Ok(at.default * DAY),
            Err(error) => return Err(error),
        };
        let days = sections::parse(&text)
            .iter()
            .find(|section| section.kind == "section" && section.id == at.section)
            .and_then(|section| section.value(&at.key)?.parse::<i64>().ok())
            .unwrap_or(at.default);
        Ok(days.saturating_mul(DAY))
    }
}

fn dated(snapshot: &Snapshot<PKey<Public>>, now: SystemTime) -> DatedKey<'_> {
    let age = now.duration_since(snapshot.modified).unwrap_or(Duration::ZERO).as_secs();
    DatedKey { key: &snapshot.value, age: i64::try_from(age).unwrap_or(i64::MAX / 2) }
}

fn public_key(pem: &[u8]) -> Result<PKey<Public>, String> {
    PKey::public_key_from_pem(pem).map_err(|_| "holds no public key in PEM form".to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "a parser of WatchedFile may fail")]
fn plain_text(bytes: &[u8]) -> Result<String, String> {
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// Several lines of one header as one text; `Cookie` is joined by `; ` (RFC 9113 section 8.2.3).
pub fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let lines: Vec<_> =
        headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    lines.join("; ")
}

fn unix(now: SystemTime) -> i64 {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
