//! The logins of pages. A page without a login is served too, so this module decides whether a ticket is verified.

use std::time::SystemTime;

use http::HeaderMap;
use http::header::COOKIE;

use super::ticket::TicketError;
use super::{csrf, fetch_site};
use crate::auth::authenticator::{AuthError, Authenticator, credential, joined};
use crate::auth::credential_cache::TicketUser;
use crate::auth::credential_memory::ShownTicket;
use crate::http::target::query_value;
use crate::limits::failure_table::ClientKey;
use crate::os::log_limit::{self, LogTopic};
use crate::os::unix_time::unix_time;

/// The user of a page, and the CSRF token for the calls of the page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PageLogin {
    pub user: String,
    pub csrf_token: String,
}

/// The visitor of a page.
#[derive(Debug)]
pub enum PageVisitor {
    User(PageLogin),
    Anonymous,
    /// like `Anonymous`, with a forged ticket that this client has not shown before
    Forger,
}

/// The client that sends a ticket.
#[derive(Clone, Copy, Default)]
pub struct TicketClient {
    /// the key that its failures count for; `None` if they do not count
    pub source: Option<ClientKey>,
    /// whether it is over the limit of failed logins
    pub is_refused: bool,
}

impl Authenticator {
    /// The user of a good ticket in the cookie or, if the request has no cookie at all, in the link that was clicked;
    /// only of a kind that `takes` accepts. Without a good ticket the page asks for a login.
    ///
    /// For a client over the limit, only tickets that were good before are verified.
    pub fn page_visitor(
        &self,
        headers: &HeaderMap,
        query: &str,
        client: TicketClient,
        now: SystemTime,
        takes: impl Fn(Option<usize>) -> bool,
    ) -> PageVisitor {
        let found = if headers.contains_key(COOKIE) {
            self.user_of_cookie(headers, client, now)
        } else if self.foreign_page(headers).is_some() && !fetch_site::is_navigation(headers) {
            // An image on a foreign page would make its visitors guess.
            Ok(None)
        } else {
            self.user_of_link(query, client, now)
        };
        match found {
            Ok(Some(found)) if takes(Some(found.ticket.kind)) => {
                self.login(found.user, now).map_or(PageVisitor::Anonymous, PageVisitor::User)
            }
            Ok(_) => PageVisitor::Anonymous,
            Err(denial) => {
                tracing::debug!(%denial, "a page without login");
                if matches!(denial, AuthError::Ticket(error) if error.is_guess()) {
                    PageVisitor::Forger
                } else {
                    PageVisitor::Anonymous
                }
            }
        }
    }

    fn login(&self, user: String, now: SystemTime) -> Option<PageLogin> {
        let secret = self.csrf_secret.get().map_err(|error| {
            log_limit::error(LogTopic::Fault, "csrf", &format_args!("no CSRF token: {error}"));
        });
        let secret = secret.ok()?;
        let csrf_token = csrf::mint(&user, &secret.value, &self.rules.csrf, unix_time(now)).ok()?;
        Some(PageLogin { user, csrf_token })
    }

    fn user_of_cookie(
        &self,
        headers: &HeaderMap,
        client: TicketClient,
        now: SystemTime,
    ) -> Result<Option<TicketUser>, AuthError> {
        let known = self.clients.find(headers).filter(|known| self.is_still_good(known, now));
        if let Some(known) = &known
            && let Some(ticket) = known.ticket
        {
            return Ok(Some(TicketUser { user: known.user.to_string(), ticket }));
        }
        let ticket = credential::value_of(&self.rules.cookie, &joined(headers, &COOKIE));
        ticket.map(|ticket| self.verified_for_page(&ticket, client, now)).transpose()
    }

    fn user_of_link(
        &self,
        query: &str,
        client: TicketClient,
        now: SystemTime,
    ) -> Result<Option<TicketUser>, AuthError> {
        let named = self.tickets.iter().enumerate().find_map(|(kind, files)| {
            let ticket = query_value(query, files.kind.link.as_deref()?)?;
            // A ticket has no space; a space is a plus sign that the mail did not encode.
            Some((kind, ticket.replace(' ', "+")))
        });
        let Some((kind, ticket)) = named else { return Ok(None) };
        let ticket = if ticket.contains(&self.rules.ticket_form.signature_separator) {
            ticket
        } else {
            // Mail programs encode links that are encoded already.
            percent_encoding::percent_decode_str(&ticket).decode_utf8_lossy().replace(' ', "+")
        };
        let found = self.verified_for_page(&ticket, client, now)?;
        // The ticket of a session opens no link, but is no guess either.
        Ok(Some(found).filter(|found| found.ticket.kind == kind))
    }

    /// Verifies only known tickets for a client over its limit.
    fn verified_for_page(
        &self,
        ticket: &str,
        client: TicketClient,
        now: SystemTime,
    ) -> Result<TicketUser, AuthError> {
        if client.is_refused && !self.memory.was_good(ticket) {
            return Err(AuthError::Unverified);
        }
        self.verified(ticket, client, now)
    }

    /// The user of a ticket, unless the same client sent the same ticket before and it was refused. A ticket is
    /// verified in the same way at pages and calls, so that a ticket that one refuses is refused by both.
    ///
    /// Only refusals that count are remembered, and none of a client over its limit: it would evict those of others.
    pub(super) fn verified(
        &self,
        ticket: &str,
        client: TicketClient,
        now: SystemTime,
    ) -> Result<TicketUser, AuthError> {
        // Without its key a ticket is neither good nor refused.
        let Some(key_versions) = self.key_versions() else { return self.user_of(ticket, now) };
        let shown = ShownTicket { ticket, by: client.source, key_versions: &key_versions };
        if let Some(error) = self.memory.refusal(&shown) {
            return Err(AuthError::SameTicket(error));
        }
        let verified = match self.user_of(ticket, now) {
            Err(AuthError::Ticket(error)) if error.is_guess() && self.memory.was_good(ticket) => {
                Err(AuthError::Ticket(TicketError::KeyReplaced))
            }
            verified => verified,
        };
        match &verified {
            Ok(_) => self.memory.remember_good(ticket),
            Err(AuthError::Ticket(error)) if error.is_guess() && !client.is_refused => {
                self.memory.refuse(&shown, *error);
            }
            Err(_) => (),
        }
        verified
    }

    fn key_versions(&self) -> Option<Vec<u8>> {
        let mut versions = Vec::new();
        for files in &self.tickets {
            files.add_key_versions(&mut versions)?;
        }
        Some(versions)
    }
}
