//! A class of routes: whether a request belongs to the part of a product that its listener serves.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use http::Method;

use crate::config::product;
use crate::pattern::Pattern;
use crate::target::{ApiPath, query_parameters};

/// What is served; all else does not exist there.
#[derive(Debug)]
pub struct RouteClass {
    pages: Vec<String>,
    pages_without: Vec<String>,
    files: Vec<String>,
    calls: Vec<Pattern>,
    /// kinds of tickets by their place in the profile; `None` takes every credential
    tickets: Option<Vec<usize>>,
    login: Option<(Pattern, String)>,
    limits: Vec<Limit>,
}

#[derive(Debug)]
struct Limit {
    /// tells its counts from those of other limits, after a reload as well
    number: u64,
    call: Pattern,
    per_minute: usize,
}

/// What a login says of its user.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Claim {
    pub user: String,
    pub realm: Option<String>,
}

impl RouteClass {
    /// Everything that the class names must be in the profile.
    pub fn new(name: &str, rules: &product::RouteClass, product: &product::Product) -> Result<Self, String> {
        let missing = |what: &str, text: &str| format!("class.{name}: the profile has no {what} '{text}'");
        if let Some(url) = rules.pages.iter().find(|url| !product.page.iter().any(|page| page.url == **url)) {
            return Err(missing("page", url));
        }
        let directories = product.directory.iter().map(|directory| &directory.url);
        let urls: Vec<_> = directories.chain(product.file.iter().map(|file| &file.url)).collect();
        if let Some(url) = rules.files.iter().find(|url| !urls.contains(url)) {
            return Err(missing("file or directory", url));
        }
        let kinds = product.gate.as_ref().map_or(&[][..], |gate| gate.ticket.as_slice());
        let kind = |prefix: &String| {
            let place = kinds.iter().position(|kind| kind.prefix == *prefix);
            place.ok_or_else(|| missing("ticket", prefix))
        };
        let tickets: Vec<_> = rules.tickets.iter().map(kind).collect::<Result<_, _>>()?;
        let login = rules.login.as_ref();
        let login = login.map(|login| Ok::<_, String>((Pattern::parse(&login.call)?, login.realm.clone())));
        let limits = rules.limit.iter().map(|limit| {
            let mut hasher = DefaultHasher::new();
            (name, &limit.call).hash(&mut hasher);
            let call = Pattern::parse(&limit.call)?;
            Ok(Limit { number: hasher.finish(), call, per_minute: limit.per_minute })
        });
        Ok(Self {
            pages: rules.pages.clone(),
            pages_without: rules.pages_without.clone(),
            files: rules.files.clone(),
            calls: rules.calls.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?,
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

    /// By the URL that the profile gives the file, or the directory it lies in.
    pub fn has_file(&self, url: &str) -> bool {
        self.files.iter().any(|file| file == url)
    }

    pub fn has_call(&self, method: &Method, path: &ApiPath) -> bool {
        self.calls.iter().any(|call| call.matches(verb(method), path.segments()))
    }

    /// Whether a credential is taken: a ticket by its kind, `None` for one that is no ticket.
    pub fn takes(&self, kind: Option<usize>) -> bool {
        let Some(tickets) = &self.tickets else { return true };
        kind.is_some_and(|kind| tickets.contains(&kind))
    }

    /// The realm whose users may log in by this call, where it is one for logins.
    pub fn login_realm(&self, method: &Method, path: &ApiPath) -> Option<&str> {
        let (call, realm) = self.login.as_ref()?;
        call.matches(verb(method), path.segments()).then_some(realm.as_str())
    }

    /// How often a minute a client may make this call, behind the number of that limit.
    pub fn limit(&self, method: &Method, path: &ApiPath) -> Option<(u64, usize)> {
        let limit = self.limits.iter().find(|limit| limit.call.matches(verb(method), path.segments()))?;
        Some((limit.number, limit.per_minute))
    }
}

fn verb(method: &Method) -> &str {
    if *method == Method::HEAD { "GET" } else { method.as_str() }
}

impl Claim {
    /// From a form. A daemon may read a form that says something twice, with `;` between its parts, or with a second `=`
    /// in one of them, where some end the value, otherwise than we do: then there is no claim to trust.
    pub fn of_form(form: &str) -> Option<Self> {
        if form.contains(';') {
            return None;
        }
        let mut claim = (None, None);
        for parameter in form.split('&') {
            let Some((name, value)) = query_parameters(parameter).next() else { continue };
            let field = match &*name {
                "username" => &mut claim.0,
                "realm" => &mut claim.1,
                _ => continue,
            };
            let is_cut = parameter.matches('=').count() > 1;
            if field.replace(value?.into_owned()).is_some() || is_cut {
                return None;
            }
        }
        Some(Self { user: claim.0?, realm: claim.1 })
    }

    /// Whether the user is one of that realm, however a daemon puts name and realm together: a name that ends in the
    /// name of another realm, rather than in a mail domain, is not.
    pub fn is_of(&self, wanted: &str) -> bool {
        let end = self.user.rsplit_once('@');
        match self.realm.as_deref() {
            None => end.is_some_and(|(name, realm)| realm == wanted && !name.is_empty()),
            Some(realm) => realm == wanted && end.is_none_or(|(_, end)| end == wanted || end.contains('.')),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_form_that_could_be_read_in_two_ways_claims_nothing() {
        let claim = Claim::of_form("username=a%40b.example%40quarantine&password=x%3By").unwrap();
        assert_eq!(claim, Claim { user: "a@b.example@quarantine".to_owned(), realm: None });
        assert_eq!(Claim::of_form("realm=quarantine&username=a").unwrap().realm.unwrap(), "quarantine");
        let claim = Claim::of_form("username=a%3Db%40quarantine&password=c=").unwrap();
        assert_eq!(claim.user, "a=b@quarantine", "what is encoded is no end, and a password no claim");
        for form in [
            "",
            "password=x",
            "username=a@quarantine&username=root@pam",
            "username=a@quarantine&%75sername=root@pam",
            "username=a@quarantine;username=root@pam",
            "realm=quarantine&username=a&realm=pam",
            "username=root%40pam=x%40quarantine",
            "username=a%40b.example&realm==quarantine",
            "username",
        ] {
            assert_eq!(Claim::of_form(form), None, "{form}");
        }
    }

    #[test]
    fn only_users_of_the_realm_are_of_it() {
        let claim = |user: &str, realm: Option<&str>| Claim {
            user: user.to_owned(),
            realm: realm.map(str::to_owned),
        };
        for (user, realm) in [
            ("a@b.example@quarantine", None),
            ("a@b.example", Some("quarantine")),
            ("a@b.example@quarantine", Some("quarantine")),
            ("uid", Some("quarantine")),
        ] {
            assert!(claim(user, realm).is_of("quarantine"), "{user} {realm:?}");
        }
        for (user, realm) in [
            ("root@pam", None),
            ("a@b.example", None),
            ("@quarantine", None),
            ("root@pam", Some("quarantine")),
            ("a@quarantine", Some("pam")),
            ("a@quarantine", Some("")),
            ("a@quarantine@pam", None),
        ] {
            assert!(!claim(user, realm).is_of("quarantine"), "{user} {realm:?}");
        }
    }
}
