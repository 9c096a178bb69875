//! Takes secrets out of everything that goes into a bundle: by their names, by their forms, and by the contents of the
//! files and variables that hold them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use regex::Regex;
use serde_json::Value;

use crate::cli::compare::secrets::SecretMask;
use crate::config::Config;
use crate::tls::certificate_files;

const MASK: &str = "***";
/// Shorter words of a secret file are too common to be searched for.
const MIN_SECRET_BYTES: usize = 12;
/// Secret files are smaller.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A text without secrets. Only the redaction makes one.
pub(super) struct Redacted(String);

impl Redacted {
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

pub(super) struct Redaction {
    mask: SecretMask,
    /// a query string, to its end
    query: Regex,
    /// the assignments of an `Environment=` line, or of a variable of nodegate
    environment: Regex,
    /// a signature in hexadecimal digits, such as that of a ticket for a tunnel
    signature: Regex,
    /// texts that are secret wherever they stand
    known: BTreeSet<String>,
}

impl Redaction {
    /// `known` are texts that are secret wherever they stand.
    pub(super) fn new(mut known: BTreeSet<String>) -> Result<Self, String> {
        let pattern = |text: &str| Regex::new(text).map_err(|error| error.to_string());
        let mask = SecretMask::new()?;
        let variables = std::env::vars().filter(|(name, _)| mask.is_secret_name(name));
        known.extend(variables.map(|(_, value)| value).filter(|value| value.len() >= MIN_SECRET_BYTES));
        Ok(Self {
            mask,
            query: pattern(r#"([/\w.~%-])\?[^\s"'<>?]*[=&%][^\s"'<>]*"#)?,
            environment: pattern(r"(?m)^(\s*(?:Environment|PassEnvironment)=).*$")?,
            signature: pattern(r"(::|%3[Aa]%3[Aa])[0-9A-Fa-f]{32,}")?,
            known,
        })
    }

    pub(super) fn text(&self, text: &str) -> Redacted {
        Redacted(self.redact(text))
    }

    /// Keeps the structure: members with a secret name, and every string.
    pub(super) fn json(&self, mut value: Value) -> Redacted {
        self.walk(&mut value);
        Redacted(self.without_known(format!("{value:#}\n")))
    }

    fn walk(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.redact(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item)),
            Value::Object(members) => {
                for (name, member) in members {
                    if self.mask.is_secret_name(name) && (member.is_string() || member.is_number()) {
                        *member = MASK.into();
                    } else {
                        self.walk(member);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => (),
        }
    }

    fn redact(&self, text: &str) -> String {
        let text = self.environment.replace_all(text, format!("${{1}}{MASK}"));
        let text = self.mask.mask(&text).into_owned();
        let text = self.signature.replace_all(&text, format!("${{1}}{MASK}"));
        let text = self.query.replace_all(&text, format!("${{1}}?{MASK}"));
        self.without_known(text.into_owned())
    }

    fn without_known(&self, text: String) -> String {
        self.known.iter().fold(text, |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), MASK) } else { text }
        })
    }
}

/// The lines of all files with keys and secrets, without the lines that every such file has.
pub(super) fn secrets_of_files(config: &Config) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for path in secret_files(config) {
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MAX_FILE_BYTES) {
            let bytes = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines = text.lines().map(str::trim);
            let is_secret = |line: &&str| line.len() >= MIN_SECRET_BYTES && !line.starts_with("-----");
            known.extend(lines.filter(is_secret).map(str::to_owned));
        }
    }
    known
}

fn secret_files(config: &Config) -> Vec<PathBuf> {
    let product = &config.product;
    let csrf = product.auth.iter().map(|auth| &auth.csrf.secret);
    let connect = product.connect.iter().map(|connect| &connect.secret);
    let named = csrf.chain(connect).map(|path| config.root.path(path));
    named.chain(certificate_files::key_files(config)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn redaction() -> Redaction {
        Redaction::new(["c2VjcmV0-line-of-a-key".to_owned()].into()).unwrap()
    }

    #[test]
    fn texts_lose_their_secrets_and_keep_the_rest() {
        for (text, expected) in [
            ("GET /a?port=5900&x=correct HTTP/1.1", "GET /a?*** HTTP/1.1"),
            ("GET /a?correct%3Dhorse HTTP/1.1", "GET /a?*** HTTP/1.1"),
            ("Environment=A=correct B=horse\nUser=www-data", "Environment=***\nUser=www-data"),
            ("the line c2VjcmV0-line-of-a-key stands here", "the line *** stands here"),
            ("CONNECT p:1:n:61::0123456789abcdef0123456789abcdef01234567:61 x", "CONNECT p:1:n:61::***:61 x"),
            ("did you mean listen.port?", "did you mean listen.port?"),
            ("listen.port = 8006  (profile)", "listen.port = 8006  (profile)"),
            ("PVEAPIToken=root@pam!x=01234567-0123-0123-0123-0123456789ab", "PVEAPIToken=***"),
        ] {
            assert_eq!(redaction().text(text).into_text(), expected);
        }
    }

    #[test]
    fn json_keeps_its_structure() {
        let value = json!({ "a": { "password": "correct", "n": 7 }, "list": ["/x?ticket=correct", "plain"] });
        let text = redaction().json(value).into_text();
        let redacted: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(redacted, json!({ "a": { "password": "***", "n": 7 }, "list": ["/x?***", "plain"] }));
    }
}
