//! Authenticates a request. The daemon runs as root and checks no CSRF token, so nodegate must.

pub mod credential;

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::auth::credential_cache::{CachedCredential, CachedTicket, CredentialCache, TicketUser};
use crate::auth::credential_memory::CredentialMemory;
use crate::auth::csrf;
pub use crate::auth::error::AuthError;
pub use crate::auth::page_login::{PageLogin, PageVisitor, TicketClient};
use crate::auth::rule_check;
use crate::auth::ticket::{TicketError, VerifiedUser};
use crate::auth::ticket_verifier::{TicketFiles, VerifyContext};
use crate::config::product;
use crate::config::root::RootDirectory;
use crate::config::settings::AllowedOrigins;
use crate::fs::cached_file::{CachedFile, FileError, POLL_INTERVAL};
use crate::http::api_grammar::ApiGrammar;
use crate::http::path_pattern::{PathPattern, verb};
use crate::http::target::ApiPath;
use crate::limits::failure_table::ClientKey;
use crate::upstream::nodes::NodeFile;
use crate::verdict::login::{LoginCalls, LoginProof};
pub use credential::joined;
use credential::{Credential, CredentialNames, sensitive};

/// Characters that `uri_escape` of the original does not escape.
const COOKIE_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The rules of a profile, with the files that they need.
pub struct Authenticator {
    pub(super) rules: product::AuthRules,
    /// method and path of the calls that need no login
    open: Vec<(String, String)>,
    pub(super) csrf_header: HeaderName,
    pub(super) csrf_exempt: Vec<PathPattern>,
    pub(super) csrf_secret: CachedFile<Vec<u8>>,
    /// origins whose pages may write without a CSRF token, where none is needed
    pub shared_with: AllowedOrigins,
    pub(super) tickets: Vec<TicketFiles>,
    nodes: Arc<NodeFile>,
    pub(super) clients: CredentialCache,
    logins: LoginCalls,
    pub(super) memory: Arc<CredentialMemory>,
}

/// The user of a request: for the log, and for the daemon.
#[derive(Clone, Default)]
pub struct AuthenticatedUser {
    /// `None` if the call needs no login
    pub client: Option<Arc<CachedCredential>>,
    /// the CSRF token that came with a ticket, unchanged
    pub csrf_token: Option<HeaderValue>,
}

impl AuthenticatedUser {
    pub fn user(&self) -> Option<Arc<str>> {
        self.client.as_ref().map(|known| Arc::clone(&known.user))
    }
}

impl Authenticator {
    /// Reads no file yet.
    ///
    /// # Errors
    /// The rules of the profile that are not sound.
    pub fn new(
        rules: product::AuthRules,
        root: &RootDirectory,
        nodes: Arc<NodeFile>,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let csrf_header = rule_check::check(&rules).map_err(|more| problems.extend(more));
        let exempt = rules.csrf_exempt.iter().map(|text| PathPattern::parse(text));
        let csrf_exempt = exempt.collect::<Result<_, _>>();
        let csrf_exempt =
            csrf_exempt.map_err(|what: String| problems.push(format!("product.auth.csrf_exempt: {what}")));
        let logins = LoginCalls::new(&rules).map_err(|what| problems.push(what));
        let (Ok(csrf_header), Ok(csrf_exempt), Ok(logins)) = (csrf_header, csrf_exempt, logins) else {
            return Err(problems);
        };
        let tickets =
            rules.ticket.iter().map(|kind| TicketFiles::new(kind.clone(), &rules.schemes, root)).collect();
        let csrf_secret = CachedFile::new(root.path(&rules.csrf.secret), csrf::key_parser(rules.csrf.key))
            .with_ttl(POLL_INTERVAL);
        let split =
            |text: &String| text.split_once(' ').map(|(verb, path)| (verb.to_owned(), path.to_owned()));
        let open = rules.open.iter().filter_map(split).collect();
        let clients = CredentialCache::new();
        let shared_with = AllowedOrigins::default();
        let memory = Arc::default();
        Ok(Self {
            rules,
            open,
            csrf_header,
            csrf_exempt,
            csrf_secret,
            shared_with,
            tickets,
            nodes,
            clients,
            logins,
            memory,
        })
    }

    /// Lets pages of these origins write if no CSRF token is needed.
    #[must_use]
    pub fn shared_with(self, origins: &AllowedOrigins) -> Self {
        Self { shared_with: origins.clone(), ..self }
    }

    /// Shares the memory of credentials that outlives a reload.
    #[must_use]
    pub fn with_memory(self, memory: &Arc<CredentialMemory>) -> Self {
        Self { memory: Arc::clone(memory), ..self }
    }

    /// Whether the call needs no login. The decoded path must match exactly: `/access/ticket/` is another path.
    pub fn is_open(&self, method: &Method, path: &ApiPath) -> bool {
        self.open.iter().any(|(known, open)| known == verb(method) && open == path.decoded())
    }

    /// Whether the daemon verifies no credential of this call.
    pub fn is_unverified_by_daemon(&self, method: &Method, path: &ApiPath) -> bool {
        self.logins.is_open(method, path)
    }

    /// The proof of success in the answer to a call by which a client can guess credentials.
    pub fn login_proof(&self, method: &Method, path: &ApiPath) -> Option<&LoginProof> {
        self.logins.proof(method, path)
    }

    /// Verifies the one credential of the request.
    pub fn authenticate(
        &self,
        method: &Method,
        path: &ApiPath,
        headers: &HeaderMap,
        client: impl FnOnce() -> TicketClient,
        now: SystemTime,
    ) -> Result<AuthenticatedUser, AuthError> {
        if self.is_open(method, path) {
            self.check_page_of_login(method, path, headers)?;
            return Ok(AuthenticatedUser::default());
        }
        let known = self.clients.find(headers).filter(|known| self.is_still_good(known, now));
        let client = known.map_or_else(|| self.verify_credential(headers, client, now), Ok)?;
        let csrf_token = match client.ticket {
            Some(_) => self.check_csrf(method, path, headers, &client.user, now)?,
            None => None,
        };
        Ok(AuthenticatedUser { client: Some(client), csrf_token })
    }

    /// Whether the credential came in the cookie, which a browser adds to the requests of any page.
    pub fn is_by_cookie(&self, identity: &AuthenticatedUser, headers: &HeaderMap) -> bool {
        identity.client.as_ref().is_some_and(|known| known.ticket.is_some()) && self.has_cookie(headers)
    }

    pub(super) fn has_cookie(&self, headers: &HeaderMap) -> bool {
        credential::value_of(&self.rules.cookie, &joined(headers, &COOKIE)).is_some()
    }

    pub(super) fn is_still_good(&self, known: &CachedCredential, now: SystemTime) -> bool {
        let Some(ticket) = &known.ticket else { return true };
        self.tickets.get(ticket.kind).is_some_and(|files| files.is_still_good(&ticket.signed, self.at(now)))
    }

    fn verify_credential(
        &self,
        headers: &HeaderMap,
        client: impl FnOnce() -> TicketClient,
        now: SystemTime,
    ) -> Result<Arc<CachedCredential>, AuthError> {
        let names =
            CredentialNames { cookie: &self.rules.cookie, api_token: self.rules.api_token.as_deref() };
        let cookies = joined(headers, &COOKIE);
        let known = match credential::take(names, &cookies, &joined(headers, &AUTHORIZATION)) {
            None => return Err(AuthError::NoCredential),
            Some(Credential::ApiToken(token)) => {
                if !credential::is_api_token(&token) {
                    return Err(AuthError::ApiToken);
                }
                let scheme = names.api_token.unwrap_or_default();
                let value = sensitive(&format!("{scheme} {}", utf8_percent_encode(&token, COOKIE_VALUE)));
                let value = value.ok_or(AuthError::ApiToken)?;
                let is_good = self.memory.has_good_token(value.as_bytes());
                let known =
                    CachedCredential::new(credential::api_token_id(&token), AUTHORIZATION, value, None);
                known.set_verified(is_good);
                known
            }
            Some(Credential::Ticket(text)) => {
                let TicketUser { user, ticket } = self.verified(&text, client(), now)?;
                let value = format!("{}={}", names.cookie, utf8_percent_encode(&text, COOKIE_VALUE));
                let value = sensitive(&value).ok_or(AuthError::Ticket(TicketError::Form))?;
                CachedCredential::new(&user, COOKIE, value, Some(ticket))
            }
        };
        self.clients.remember(headers, &known);
        Ok(known)
    }

    fn at(&self, now: SystemTime) -> VerifyContext<'_> {
        VerifyContext { rules: &self.rules, nodes: &self.nodes, now }
    }

    /// Stores the daemon's verdict on an API token.
    pub fn set_verified(&self, known: &CachedCredential, good: bool) {
        if known.ticket.is_some() || known.is_unverified() != good {
            return;
        }
        known.set_verified(good);
        self.memory.remember_token(known.header.value.as_bytes(), good);
    }

    /// Stores that this client guessed an API token. Returns whether it is the first time: the same token is the same
    /// guess.
    pub fn mark_unverified(&self, known: &CachedCredential, by: ClientKey) -> bool {
        self.memory.mark_token_unverified(known.header.value.as_bytes(), by)
    }

    /// The login page for a refused login at this path, which is not decoded yet.
    pub fn login_page(&self, api: &ApiGrammar, path: &str) -> Option<&str> {
        let page = self.rules.login_page.as_deref()?;
        (api.format_of_raw(path)? == api.format_of_raw(page)?).then_some(page)
    }

    /// The reason that every refused ticket gets.
    pub fn invalid_reason(&self) -> &str {
        &self.rules.invalid
    }

    /// The header of CSRF tokens.
    pub fn csrf_header(&self) -> &HeaderName {
        &self.csrf_header
    }

    /// Reads every file once, for `check` and at the start.
    pub fn file_errors(&self) -> Vec<FileError> {
        let secret = self.csrf_secret.get().err();
        let keys = self.tickets.iter().filter_map(|files| files.key.get().err());
        secret.into_iter().chain(keys).collect()
    }

    /// Reads the key files before the first ticket arrives.
    pub fn preload(&self) {
        self.csrf_secret.preload();
        for files in &self.tickets {
            files.key.preload();
        }
    }

    pub(super) fn user_of(&self, ticket: &str, now: SystemTime) -> Result<TicketUser, AuthError> {
        let mut failure = TicketError::Form;
        for (kind, files) in self.tickets.iter().enumerate() {
            let separator = &self.rules.ticket_form.separator;
            let named =
                ticket.strip_prefix(&files.kind.prefix).is_some_and(|rest| rest.starts_with(separator));
            if !named {
                continue;
            }
            match files.verify(ticket, self.at(now)) {
                Ok(VerifiedUser { user, ticket: signed }) => {
                    return Ok(TicketUser { user, ticket: CachedTicket { kind, signed } });
                }
                Err(AuthError::Ticket(error)) => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(AuthError::Ticket(failure))
    }
}
