//! A route scope: whether a request belongs to the part of a product that its listener serves.

mod login;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use http::Method;

use crate::config::product;
use crate::config::root::RootDirectory;
use crate::http::path_pattern::{PathPattern, verb};
use crate::http::target::{ApiPath, query_parameters};
pub use login::{LoginClaim, LoginRule};

/// The part of the product that a listener serves. Everything outside of it is answered as missing.
pub struct RouteScope {
    pages: Vec<String>,
    pages_without: Vec<String>,
    files: Vec<String>,
    calls: Vec<PathPattern>,
    /// kinds of tickets by their index in the profile; `None` accepts every credential
    tickets: Option<Vec<usize>>,
    login: Option<LoginRule>,
    limits: Vec<ScopeLimit>,
}

#[derive(Debug)]
struct ScopeLimit {
    /// identifies the counts of this limit, after a reload as well
    number: u64,
    call: PathPattern,
    per_minute: usize,
}

impl RouteScope {
    /// Builds the scope.
    ///
    /// # Errors
    /// The scope names something that the profile does not have.
    pub fn new(
        name: &str,
        rules: &product::RouteScope,
        product: &product::Product,
        root: &RootDirectory,
    ) -> Result<Self, String> {
        let missing = |what: &str, text: &str| format!("class.{name}: the profile has no {what} '{text}'");
        if let Some(url) = rules.pages.iter().find(|url| !product.page.iter().any(|page| page.url == **url)) {
            return Err(missing("page", url));
        }
        let directories = product.directory.iter().map(|directory| &directory.url);
        let urls: Vec<_> = directories.chain(product.file.iter().map(|file| &file.url)).collect();
        if let Some(url) = rules.files.iter().find(|url| !urls.contains(url)) {
            return Err(missing("file or directory", url));
        }
        let kinds = product.auth.as_ref().map_or(&[][..], |auth| auth.ticket.as_slice());
        let kind = |prefix: &String| {
            let place = kinds.iter().position(|kind| kind.prefix == *prefix);
            place.ok_or_else(|| missing("ticket", prefix))
        };
        let tickets: Vec<_> = rules.tickets.iter().map(kind).collect::<Result<_, _>>()?;
        let login = rules.login.as_ref().map(|login| LoginRule::new(login, root));
        let limits = rules.limit.iter().map(|limit| {
            let mut hasher = DefaultHasher::new();
            (name, &limit.call).hash(&mut hasher);
            let call = PathPattern::parse(&limit.call)?;
            Ok(ScopeLimit { number: hasher.finish(), call, per_minute: limit.per_minute })
        });
        Ok(Self {
            pages: rules.pages.clone(),
            pages_without: rules.pages_without.clone(),
            files: rules.files.clone(),
            calls: rules.calls.iter().map(|text| PathPattern::parse(text)).collect::<Result<_, _>>()?,
            tickets: Some(tickets).filter(|tickets| !tickets.is_empty()),
            login: login.transpose()?,
            limits: limits.collect::<Result<_, String>>()?,
        })
    }

    pub fn has_page(&self, path: &str, query: &str) -> bool {
        let is_other =
            || query_parameters(query).any(|(name, _)| self.pages_without.iter().any(|it| *it == name));
        self.pages.iter().any(|page| page == path) && !is_other()
    }

    /// Whether a file is served, by its URL in the profile or that of its directory.
    pub fn has_file(&self, url: &str) -> bool {
        self.files.iter().any(|file| file == url)
    }

    pub fn has_call(&self, method: &Method, path: &ApiPath) -> bool {
        self.calls.iter().any(|call| call.matches(verb(method), path.segments()))
    }

    /// Whether a credential is accepted: a ticket by its kind, `None` for any other.
    pub fn takes(&self, kind: Option<usize>) -> bool {
        let Some(tickets) = &self.tickets else { return true };
        kind.is_some_and(|kind| tickets.contains(&kind))
    }

    /// The users who may log in by this call, if it is a login.
    pub fn login_rule(&self, method: &Method, path: &ApiPath) -> Option<&LoginRule> {
        self.login.as_ref().filter(|login| login.call.matches(verb(method), path.segments()))
    }

    /// The number of this call's limit, and how often a client may make it in a minute.
    pub fn limit(&self, method: &Method, path: &ApiPath) -> Option<(u64, usize)> {
        let limit = self.limits.iter().find(|limit| limit.call.matches(verb(method), path.segments()))?;
        Some((limit.number, limit.per_minute))
    }
}
