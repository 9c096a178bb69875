//! Logins of pages: no page is refused for want of one, so whether a ticket is verified at all is decided here.

use std::time::{Instant, SystemTime};

use http::HeaderMap;
use http::header::COOKIE;

use super::known::Ticket;
use super::memory::Shown;
use super::ticket::TicketError;
use super::{Denial, Gate, credential, csrf, joined, unix};
use crate::limits::failures::Source;
use crate::process::log_limit::{self, Topic};
use crate::target::query_value;

/// The user of a page, and the token for what the page asks in turn.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Login {
    pub user: String,
    pub csrf_token: String,
}

/// What a page is rendered for.
#[derive(Debug)]
pub enum PageVisitor {
    User(Login),
    Nobody,
    /// like `Nobody`, by a forged ticket that this client has not shown before
    Forger,
}

/// The client that shows a ticket.
#[derive(Clone, Copy)]
pub struct TicketClient {
    /// what it is counted as; `None` where it is not
    pub source: Option<Source>,
    /// it is over the limit of failed logins
    pub is_refused: bool,
}

impl Gate {
    /// The user of a good ticket in the cookie or, where the request has no cookie at all, in the link that was clicked;
    /// of a kind that `takes` says yes to. Without a good ticket the page asks for a login.
    ///
    /// For a client that is refused only tickets that were good before are verified.
    pub fn page_visitor(
        &self,
        headers: &HeaderMap,
        query: &str,
        client: TicketClient,
        now: SystemTime,
        takes: impl Fn(Option<usize>) -> bool,
    ) -> PageVisitor {
        let judged = if headers.contains_key(COOKIE) {
            self.user_of_cookie(headers, client, now)
        } else {
            self.user_of_link(query, client, now)
        };
        match judged {
            Some(Ok((user, kind))) if takes(Some(kind)) => {
                self.login(user, now).map_or(PageVisitor::Nobody, PageVisitor::User)
            }
            Some(Ok(_)) | None => PageVisitor::Nobody,
            Some(Err(denial)) => {
                tracing::debug!(%denial, "a page without login");
                if matches!(denial, Denial::Ticket(error) if error.is_guess()) {
                    PageVisitor::Forger
                } else {
                    PageVisitor::Nobody
                }
            }
        }
    }

    fn login(&self, user: String, now: SystemTime) -> Option<Login> {
        let secret = self.csrf_secret.current().map_err(|error| {
            log_limit::error(Topic::Fault, "csrf", &format_args!("no CSRF token: {error}"));
        });
        let secret = secret.ok()?;
        let csrf_token = csrf::mint(&user, &secret.value, unix(now)).ok()?;
        Some(Login { user, csrf_token })
    }

    fn user_of_cookie(
        &self,
        headers: &HeaderMap,
        client: TicketClient,
        now: SystemTime,
    ) -> Option<Result<(String, usize), Denial>> {
        let known = self.clients.find(headers).filter(|known| self.is_still_good(known, now));
        if let Some((known, kind)) = known.and_then(|known| known.kind().map(|kind| (known, kind))) {
            return Some(Ok((known.user.to_string(), kind)));
        }
        let ticket = credential::value_of(&self.rules.cookie, &joined(headers, &COOKIE))?;
        let verify = || self.user_of(&ticket, now);
        Some(self.verified(&ticket, client, verify).map(|(user, ticket)| (user, ticket.kind)))
    }

    fn user_of_link(
        &self,
        query: &str,
        client: TicketClient,
        now: SystemTime,
    ) -> Option<Result<(String, usize), Denial>> {
        let (kind, files, ticket) = self.tickets.iter().enumerate().find_map(|(kind, files)| {
            let ticket = query_value(query, files.kind.link.as_deref()?)?;
            // A ticket holds no space: what looks like one is a plus sign that the mail did not encode.
            Some((kind, files, ticket.replace(' ', "+")))
        })?;
        let verify = || {
            // Mail programs encode links that are encoded already.
            let twice = percent_encoding::percent_decode_str(&ticket).decode_utf8_lossy().replace(' ', "+");
            let verified = match files.verify(&ticket, self.at(now)) {
                Ok(Err(_)) if twice != ticket => files.verify(&twice, self.at(now)),
                verified => verified,
            };
            let (user, signed) = verified?.map_err(Denial::Ticket)?;
            Ok((user, Ticket { kind, signed }))
        };
        Some(self.verified(&ticket, client, verify).map(|(user, _)| (user, kind)))
    }

    /// The outcome of `verify`, unless the same client has shown the same ticket in vain before.
    pub(super) fn verified(
        &self,
        ticket: &str,
        client: TicketClient,
        verify: impl FnOnce() -> Result<(String, Ticket), Denial>,
    ) -> Result<(String, Ticket), Denial> {
        // Without its key a ticket is neither good nor refused.
        let Some(key_versions) = self.key_versions() else { return verify() };
        let shown = Shown { ticket, by: client.source, key_versions: &key_versions };
        if let Some(error) = self.memory.refusal(&shown, Instant::now()) {
            return Err(Denial::SameTicket(error));
        }
        if client.is_refused && !self.memory.was_good(ticket) {
            return Err(Denial::Unverified);
        }
        let verified = verify();
        match &verified {
            Ok(_) => self.memory.remember_good(ticket),
            // Half a login is told by its form.
            Err(Denial::Ticket(TicketError::Half)) => (),
            Err(Denial::Ticket(error)) => self.memory.refuse(&shown, *error, Instant::now()),
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
