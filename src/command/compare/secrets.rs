//! What a comparison prints holds no tickets, tokens or passwords.

use std::borrow::Cow;

use regex::Regex;

const MASK: &str = "***";
/// Parts of the names of fields, parameters, cookies and variables whose values are secrets.
const WORDS: &str = "ticket|token|csrf|passw|secret|credential|privkey|apikey|authcookie";

/// Finds secrets by the names before them and by their forms.
pub(super) struct Secrets {
    name: Regex,
    /// each keeps its groups and loses the rest
    values: Vec<Regex>,
}

impl Secrets {
    pub(super) fn new() -> Result<Self, String> {
        let pattern = |text: &str| Regex::new(text).map_err(|error| error.to_string());
        let values = [
            // PREFIX:DATA:TIME::SIGNATURE, percent-encoded or not
            r"([A-Za-z]+)(?::|%3[Aa])(?:[^\s<>&;]*?(?::|%3[Aa]))?[0-9A-Fa-f]{8}(?:::|%3[Aa]%3[Aa])[A-Za-z0-9+/=%._-]+".to_owned(),
            // USER@REALM!NAME=UUID
            r"(![A-Za-z0-9._-]+(?:=|%3[Dd]| ))[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}".to_owned(),
            // TIME:HMAC
            r"()\b[0-9A-F]{8}(?::|%3[Aa])[A-Za-z0-9+/%]{27,60}=?".to_owned(),
            // scheme://user:password@host
            r"(://[^/\s:@]*:)[^/\s@]+(@)".to_owned(),
            // name=value, name: 'value', "name": "value"
            format!(r#"(?i)((?:[\w%-]*(?:{WORDS})[\w%-]*)["']?\s*[:=]\s*["']?)[^"'&;\s,}}<>\]]+"#),
        ];
        Ok(Self {
            name: pattern(&format!("(?i){WORDS}"))?,
            values: values.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?,
        })
    }

    /// Whether the value of a field with this name, or below it, is a secret.
    pub(super) fn is_secret_name(&self, name: &str) -> bool {
        self.name.is_match(name)
    }

    /// The text with each secret replaced.
    pub(super) fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for value in &self.values {
            let next = value.replace_all(&masked, format!("${{1}}{MASK}${{2}}"));
            if let Cow::Owned(next) = next {
                masked = Cow::Owned(next);
            }
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let secrets = Secrets::new().unwrap();
        for text in [
            "PVE:root@pam:65F0AAAA::c2VjcmV0",
            "see PMGQUAR:user%40example.com:65F0AAAA::c2VjcmV0 there",
            "/?ticket=c2VjcmV0&a=b",
            "/?%74icket=1&vncticket=PVEVNC%3A65F0AAAA%3A%3Ac2VjcmV0",
            "PVEAuthCookie=c2VjcmV0; path=/",
            "CSRFPreventionToken: '65F0AAAA:c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2V'",
            "Token '65F0AAAA:c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2V'",
            r#"{"password": "c2VjcmV0"}"#,
            "https://user:c2VjcmV0@host/x",
            "PVEAPIToken=root@pam!x=c2VjcmV0",
            "root@pam!mon=01234567-0123-0123-0123-0123456789ab",
        ] {
            let masked = secrets.mask(text);
            assert!(masked.contains(MASK), "{text}");
            assert!(!masked.contains("c2VjcmV0") && !masked.contains("01234567-"), "{text}: {masked}");
        }
        for text in ["/api2/json/nodes?type=vm", "data.status: running", "https://host:8006/x", "10:20:30"] {
            assert_eq!(secrets.mask(text), text);
        }
    }

    #[test]
    fn fields_are_secret_by_their_names() {
        let secrets = Secrets::new().unwrap();
        for name in ["ticket", "CSRFPreventionToken", "vncticket", "root_password", "client-secret"] {
            assert!(secrets.is_secret_name(name), "{name}");
        }
        for name in ["status", "data", "key", "vmid"] {
            assert!(!secrets.is_secret_name(name), "{name}");
        }
    }
}
