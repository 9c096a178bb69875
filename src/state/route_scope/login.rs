//! A login at a listener with a route scope: whether its user belongs to the realm that may log in.

use std::collections::BTreeSet;

use crate::config::product::ScopeLogin;
use crate::config::root::RootDirectory;
use crate::config::section_file;
use crate::fs::cached_file::{CachedFile, FileError};
use crate::http::path_pattern::PathPattern;
use crate::http::target::query_parameters;

/// The call by which users of one realm log in, and how that realm is distinguished from the others.
pub struct LoginRule {
    pub(crate) call: PathPattern,
    pub realm: String,
    is_default: bool,
    others: OtherRealms,
}

/// The realms that may not log in.
struct OtherRealms {
    built_in: BTreeSet<String>,
    /// a section file whose ids are the names of more realms
    file: Option<CachedFile<BTreeSet<String>>>,
}

/// The user that a login names.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct LoginClaim {
    pub user: String,
    pub realm: Option<String>,
}

impl LoginRule {
    pub(crate) fn new(login: &ScopeLogin, root: &RootDirectory) -> Result<Self, String> {
        Ok(Self {
            call: PathPattern::parse(&login.call)?,
            realm: login.realm.clone(),
            is_default: login.is_default,
            others: OtherRealms {
                built_in: login.realms.iter().map(|realm| realm.to_ascii_lowercase()).collect(),
                file: login.realm_file.as_ref().map(|path| CachedFile::new(root.path(path), realm_names)),
            },
        })
    }

    /// Whether the daemon would treat the user as one of the realm. A name that ends in another realm belongs to that
    /// one, even if the login also names a realm.
    ///
    /// # Errors
    ///
    /// The file that lists the realms cannot be read, and the realm of the name is not clear without it.
    pub fn admits(&self, claim: &LoginClaim) -> Result<bool, FileError> {
        // A pattern of the daemon may accept a line end after a realm's name.
        let is_plain =
            !claim.user.is_empty() && !claim.user.contains(|c: char| c.is_whitespace() || c.is_control());
        let names_realm = match &claim.realm {
            Some(realm) => *realm == self.realm,
            None => self.is_default,
        };
        Ok(match claim.user.rsplit_once('@') {
            _ if !is_plain || claim.realm.is_some() && !names_realm => false,
            Some((name, end)) if end == self.realm => !name.is_empty(),
            _ if !names_realm => false,
            Some((_, end)) => !self.others.may_hold(end)?,
            None => true,
        })
    }
}

impl OtherRealms {
    /// Without a list of realms, only a mail domain is recognised, by its dot.
    fn may_hold(&self, end: &str) -> Result<bool, FileError> {
        let end = end.to_ascii_lowercase();
        if self.built_in.contains(&end) {
            return Ok(true);
        }
        match &self.file {
            None => Ok(self.built_in.is_empty() && !end.contains('.')),
            Some(file) => match file.get() {
                Ok(realms) => Ok(realms.value.contains(&end)),
                Err(error) if error.is_missing() => Ok(false),
                Err(error) => Err(error),
            },
        }
    }
}

fn realm_names(bytes: &[u8]) -> Result<BTreeSet<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    Ok(section_file::parse(text).into_iter().map(|section| section.id.to_ascii_lowercase()).collect())
}

impl LoginClaim {
    /// From a form. A daemon may read a form with a field twice, with `;` between its parts, or with a second `=`
    /// in one of them differently from nodegate: then there is no claim to trust.
    pub fn from_form(form: &str) -> Option<Self> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(is_default: bool, realms: &[&str], realm_file: Option<&str>) -> ScopeLogin {
        ScopeLogin {
            call: "POST /access/ticket".to_owned(),
            realm: "quarantine".to_owned(),
            is_default,
            realms: realms.iter().map(|realm| (*realm).to_owned()).collect(),
            realm_file: realm_file.map(Into::into),
        }
    }

    fn claim(user: &str, realm: Option<&str>) -> LoginClaim {
        LoginClaim { user: user.to_owned(), realm: realm.map(str::to_owned) }
    }

    #[test]
    fn an_ambiguous_form_claims_nothing() {
        let read = LoginClaim::from_form("username=a%40b.example%40quarantine&password=x%3By").unwrap();
        assert_eq!(read, claim("a@b.example@quarantine", None));
        assert_eq!(
            LoginClaim::from_form("realm=quarantine&username=a").unwrap().realm.unwrap(),
            "quarantine"
        );
        let read = LoginClaim::from_form("username=a%3Db%40quarantine&password=c=").unwrap();
        assert_eq!(read.user, "a=b@quarantine", "what is encoded is no end, and a password no claim");
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
            assert_eq!(LoginClaim::from_form(form), None, "{form}");
        }
    }

    #[test]
    fn only_users_of_the_realm_log_in() {
        let rule = LoginRule::new(&login(false, &[], None), &RootDirectory::default()).unwrap();
        for (user, realm) in [
            ("a@b.example@quarantine", None),
            ("a@b.example", Some("quarantine")),
            ("a@b.example@quarantine", Some("quarantine")),
            ("uid", Some("quarantine")),
        ] {
            assert!(rule.admits(&claim(user, realm)).unwrap(), "{user} {realm:?}");
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
            assert!(!rule.admits(&claim(user, realm)).unwrap(), "{user} {realm:?}");
        }
    }

    #[test]
    fn a_login_without_realm_is_of_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDirectory::new(directory.path().to_owned());
        let rule = LoginRule::new(&login(true, &["pam", "pmg"], Some("/realms.conf")), &root).unwrap();
        let admits = |user: &str, realm| rule.admits(&claim(user, realm)).unwrap();
        assert!(admits("a@corp.example", None), "without a file there are the built-in realms");
        std::fs::write(
            directory.path().join("realms.conf"),
            "oidc: corp.example\n\tissuer-url x\n\nldap: L\n",
        )
        .unwrap();
        for realm in [None, Some("quarantine")] {
            for user in ["uid", "a@b.example", "a@localhost", "a+b@b.example", "a@b.example@quarantine"] {
                assert!(admits(user, realm), "{user} {realm:?}");
            }
            for user in [
                "",
                "root@pam",
                "root@PAM",
                "a@pmg",
                "a@corp.example",
                "a@L",
                "a@b.example@pam",
                "root@pam\n",
                "root@pam ",
                "root@pam\0",
                "root@pam\u{a0}",
                "@quarantine",
            ] {
                assert!(!admits(user, realm), "{user:?} {realm:?}");
            }
        }
        for realm in ["pam", "corp.example", ""] {
            assert!(!admits("a@b.example", Some(realm)), "{realm}");
        }
    }

    #[test]
    fn unreadable_realms_admit_only_full_names() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDirectory::new(directory.path().to_owned());
        std::fs::write(directory.path().join("realms.conf"), b"\xff").unwrap();
        let rule = LoginRule::new(&login(true, &["pam"], Some("/realms.conf")), &root).unwrap();
        assert!(rule.admits(&claim("a@b.example", None)).is_err());
        assert!(rule.admits(&claim("a@b.example@quarantine", None)).unwrap());
        assert!(!rule.admits(&claim("root@pam", None)).unwrap());
    }
}
