//! Masks tickets, tokens and passwords in the output of a comparison.

use std::borrow::Cow;
use std::ops::Range;

use regex::Regex;

const MASK: &str = "***";
/// Parts of the names of fields, parameters, headers, cookies and variables whose values are secrets.
const WORDS: &str = "ticket|token|csrf|passw|passphrase|secret|credential|priv(?:ate)?[-_]?key|api[-_]?key\
                     |access[-_]?key|authcookie|authorization|psk";
/// Other names that end in a key, such as `CF_Key`.
const KEY: &str = "[-_]key";

/// Finds secrets by the names before them and by their forms.
pub(crate) struct SecretMask {
    name: Regex,
    key: Regex,
    /// each keeps its groups and loses the rest
    values: Vec<Regex>,
    /// a name that probably belongs to a secret, and the text between the name and the value
    named: Regex,
    /// the end of a value in a query, a form or a line of cookies: the beginning of the next one
    next: Regex,
}

impl SecretMask {
    pub(crate) fn new() -> Result<Self, String> {
        let pattern = |text: &str| Regex::new(text).map_err(|error| error.to_string());
        let values = [
            // PREFIX:DATA:TIME::SIGNATURE, percent-encoded or not
            r"([A-Za-z]+)(?::|%3[Aa])(?:[^\s<>&;]*?(?::|%3[Aa]))?[0-9A-Fa-f]{8}(?:::|%3[Aa]%3[Aa])[A-Za-z0-9+/=%._-]+",
            // USER@REALM!NAME=UUID
            r"(![A-Za-z0-9._-]+(?:=|%3[Dd]| ))[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}",
            // TIME:HMAC
            r"()\b[0-9A-F]{8}(?::|%3[Aa])[A-Za-z0-9+/%]{27,60}=?",
            // scheme://user:password@host
            r#"(://[^/\s:@]*:)[^/\s"'<>]+(@)"#,
            r"(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END|\z)",
            r"(?i)(\bbearer\s+)[A-Za-z0-9+/=._~-]{8,}",
        ];
        Ok(Self {
            name: pattern(&format!("(?i){WORDS}"))?,
            key: pattern(&format!("(?i){KEY}$"))?,
            values: values.into_iter().map(pattern).collect::<Result<_, _>>()?,
            named: pattern(&format!(
                r#"(?i)([\w%-]*?(?:(?:{WORDS})[\w%-]*?|\w{KEY}))\\?["']?\s*([:=][=>]*|%3[ad])\s*"#
            ))?,
            next: pattern(r"(?i)(?:&(?:amp;)?|;|%26|%3b)\s*(?:[\w%.\[\]-]+(?:=|%3d)|$)")?,
        })
    }

    /// Whether the value of a field with this name, or below it, is a secret.
    pub(crate) fn is_secret_name(&self, name: &str) -> bool {
        let is_public = || name.to_ascii_lowercase().contains("pub");
        self.name.is_match(name) || self.key.is_match(name) && !is_public()
    }

    /// The text with each secret replaced.
    pub(crate) fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for value in &self.values {
            let next = value.replace_all(&masked, format!("${{1}}{MASK}${{2}}"));
            if let Cow::Owned(next) = next {
                masked = Cow::Owned(next);
            }
        }
        match self.mask_named(&masked) {
            Some(text) => Cow::Owned(text),
            None => masked,
        }
    }

    /// `name=value`, `name: 'value'`, `"name": "value"`; `None` if there is none.
    fn mask_named(&self, text: &str) -> Option<String> {
        let (mut masked, mut kept) = (String::new(), 0);
        let mut position = 0;
        while let Some(found) = self.named.captures_at(text, position) {
            let (Some(all), Some(name), Some(separator)) = (found.get(0), found.get(1), found.get(2)) else {
                break;
            };
            position = all.end();
            if !self.is_secret_name(name.as_str()) {
                continue;
            }
            let value = self.value(text.get(position..)?, !separator.as_str().starts_with(':'));
            let value = position + value.start..position + value.end;
            if !value.is_empty() {
                masked.push_str(text.get(kept..value.start)?);
                masked.push_str(MASK);
                kept = value.end;
            }
            position = value.end;
        }
        if kept == 0 {
            return None;
        }
        masked.push_str(text.get(kept..)?);
        Some(masked)
    }

    /// The range of a value at the beginning of a text: up to the closing quote, to the next parameter, or to the
    /// end of the line. A password may hold any character.
    fn value(&self, text: &str, may_be_parameter: bool) -> Range<usize> {
        let unescaped = text.strip_prefix('\\').unwrap_or(text);
        if let Some(quote) = unescaped.chars().next().filter(|first| matches!(first, '"' | '\'')) {
            let escapes = text.len() - unescaped.len();
            let start = escapes + quote.len_utf8();
            return start..start + quoted_length(text.get(start..).unwrap_or_default(), quote, escapes);
        }
        let line = text.lines().next().unwrap_or_default();
        let next = self.next.find(line).filter(|_| may_be_parameter);
        0..next.map_or(line.trim_end().len(), |next| next.start())
    }
}

/// The bytes before the closing quote, or all if there is none. If the opening quote is escaped, the text is within
/// another string, and an escaped quote in it is escaped twice.
fn quoted_length(text: &str, quote: char, escapes: usize) -> usize {
    let (mut backslashes, mut is_doubled) = (0, false);
    for (place, character) in text.char_indices() {
        match character {
            '\\' => backslashes += 1,
            _ if is_doubled => (is_doubled, backslashes) = (false, 0),
            _ if character == quote && backslashes % (2 + 2 * escapes) == escapes => {
                // YAML and Perl's configuration files double a quote that is part of the value.
                let rest = text.get(place + 1..).unwrap_or_default();
                if quote == '\'' && rest.starts_with('\'') {
                    is_doubled = true;
                } else {
                    return place - escapes;
                }
            }
            _ => backslashes = 0,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_everywhere() {
        let secrets = SecretMask::new().unwrap();
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
    fn no_word_of_a_secret_is_left() {
        let secrets = SecretMask::new().unwrap();
        for (text, wanted) in [
            ("password: correct horse, battery staple", "password: ***"),
            ("a\npassword: correct horse\nuser: root\n", "a\npassword: ***\nuser: root\n"),
            ("password=correct horse", "password=***"),
            ("password=correct;horse battery", "password=***"),
            (r#"password: "correct horse", user: "root""#, r#"password: "***", user: "root""#),
            (r#"{"password": "correct \" horse", "a": 1}"#, r#"{"password": "***", "a": 1}"#),
            (r#"{"password":"correct\\","a":"b"}"#, r#"{"password":"***","a":"b"}"#),
            (
                r#""{\"password\": \"correct \\\" horse\", \"a\": 1}""#,
                r#""{\"password\": \"***\", \"a\": 1}""#,
            ),
            ("password: 'correct ''horse'' battery', a", "password: '***', a"),
            ("password => 'correct } horse' }", "password => '***' }"),
            ("password: 'correct horse", "password: '***"),
            ("/x?password=correct&amp;a=1", "/x?password=***&amp;a=1"),
            ("/x?password=correct&a=1", "/x?password=***&a=1"),
            ("/?to=%2F%3Fticket%3Dcorrect%26a%3D1", "/?to=%2F%3Fticket%3D***%26a%3D1"),
            ("to=CF_Key%3Dcorrect%26token%3Dhorse", "to=CF_Key%3D***%26token%3D***"),
            ("PVEAuthCookie=correct; path=/", "PVEAuthCookie=***; path=/"),
            ("https://root:correct@horse@host/x", "https://root:***@host/x"),
            ("private-key: correct horse", "private-key: ***"),
            (r#"{"private_key": "correct horse"}"#, r#"{"private_key": "***"}"#),
            ("api-key=correct horse", "api-key=***"),
            ("api_key: correct horse", "api_key: ***"),
            ("X-Api-Key: correct horse", "X-Api-Key: ***"),
            ("psk=\"correct horse\"", "psk=\"***\""),
            ("wpa-psk correct: 1, wpa-psk: correct", "wpa-psk correct: 1, wpa-psk: ***"),
            ("CF_Account_ID=1\nCF_Key=correct horse", "CF_Account_ID=1\nCF_Key=***"),
            ("Authorization: Basic Y29ycmVjdA==", "Authorization: ***"),
            ("curl -H 'x: Bearer correct-horse'", "curl -H 'x: Bearer ***'"),
            ("passphrase: correct horse", "passphrase: ***"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\ncorrect\nhorse\n-----END RSA PRIVATE KEY-----",
                "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----",
            ),
            ("password: \u{e4}\u{f6} \u{2028} horse", "password: ***"),
            ("password: ", "password: "),
            ("ssh_public_key: AAAA, key: 1", "ssh_public_key: AAAA, key: 1"),
        ] {
            assert_eq!(secrets.mask(text), wanted, "{text}");
        }
    }

    #[test]
    fn fields_are_secret_by_their_names() {
        let secrets = SecretMask::new().unwrap();
        for name in [
            "ticket",
            "CSRFPreventionToken",
            "vncticket",
            "root_password",
            "client-secret",
            "private-key",
            "api_key",
            "CF_Key",
            "psk",
        ] {
            assert!(secrets.is_secret_name(name), "{name}");
        }
        for name in ["status", "data", "key", "vmid", "public-key"] {
            assert!(!secrets.is_secret_name(name), "{name}");
        }
    }
}
