//! Checks `[product.auth]` when it loads: no value may make authentication weaker than it looks.

use http::HeaderName;
use http::header::{
    ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_LANGUAGE, CONTENT_TYPE, COOKIE, HOST, ORIGIN, RANGE,
    REFERER, USER_AGENT,
};

use crate::config::grammar::TicketField::{Prefix, Time, User};
use crate::config::grammar::{CsrfRules, SignatureScheme, TicketForm};
use crate::config::product::{AuthRules, TicketKind};

/// Characters that occur in no time, no user name without escapes, no encoded signature and no end of a cookie.
const SEPARATORS: &str = ":|~$.";
const MAX_SEPARATOR_CHARACTERS: usize = 2;
/// Seconds by which a ticket may come from the future: clocks differ no more.
const MAX_CLOCK_SKEW: i64 = 3600;
const MAX_AGE_SECONDS: i64 = 31 * 86_400;
/// Headers that a foreign page can set, or that browsers set by themselves.
const NO_PROOF: [HeaderName; 11] = [
    ACCEPT,
    ACCEPT_LANGUAGE,
    AUTHORIZATION,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    COOKIE,
    HOST,
    ORIGIN,
    RANGE,
    REFERER,
    USER_AGENT,
];

/// The header of the CSRF token, if all rules are sound.
///
/// # Errors
///
/// Names each invalid key, and what to write.
pub(super) fn check(rules: &AuthRules) -> Result<HeaderName, Vec<String>> {
    let mut problems = Vec::new();
    if !is_name(&rules.cookie) {
        problems.push(format!("product.auth.cookie: '{}' is not a name of a cookie", rules.cookie));
    }
    if let Some(name) = rules.api_token.as_ref().filter(|name| !is_name(name)) {
        problems
            .push(format!("product.auth.api_token: '{name}' is not a name of letters, digits, '-' and '_'"));
    }
    if rules.schemes.is_empty() {
        problems.push(
            "product.auth.schemes: is empty, so no ticket would pass; name a signature scheme".to_owned(),
        );
    }
    problems.extend(form_problems(&rules.ticket_form));
    problems.extend(rules.ticket.iter().filter_map(|kind| check_kind(kind).err()));
    match check_csrf(&rules.csrf) {
        Ok(header) if problems.is_empty() => Ok(header),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}

fn form_problems(form: &TicketForm) -> Vec<String> {
    let mut problems = Vec::new();
    let mut add = |key: &str, message: String| {
        problems.push(format!("product.auth.ticket_form.{key}: {message}"));
    };
    match form.fields.as_slice() {
        [Prefix, User, Time] | [Prefix, Time, User] => (),
        _ => add("fields", "write [\"prefix\", \"user\", \"time\"], or time before user".to_owned()),
    }
    for (key, separator) in
        [("separator", &form.separator), ("signature_separator", &form.signature_separator)]
    {
        if let Some(message) = separator_problem(separator) {
            add(key, message);
        }
    }
    if form.half_logins.iter().any(|half| half.prefix.is_empty()) {
        add("half_logins", "an empty prefix would refuse every login".to_owned());
    }
    for half in form.half_logins.iter().filter(|half| half.complete.as_deref() == Some("")) {
        add("half_logins", format!("complete of '{}' is empty; leave it out", half.prefix));
    }
    problems
}

fn separator_problem(separator: &str) -> Option<String> {
    let count = separator.chars().count();
    let fits =
        (1..=MAX_SEPARATOR_CHARACTERS).contains(&count) && separator.chars().all(|c| SEPARATORS.contains(c));
    (!fits).then(|| format!("'{separator}' is not a separator; write one or two of {SEPARATORS}"))
}

fn check_kind(kind: &TicketKind) -> Result<(), String> {
    let at = |key: &str, message: &str| Err(format!("product.auth.ticket {}: {key}: {message}", kind.prefix));
    if !is_name(&kind.prefix) {
        return at("prefix", "write letters, digits, '-' and '_'");
    }
    match (kind.max_age, &kind.lifetime) {
        (Some(_), Some(_)) => return at("max_age", "the ages come from lifetime; leave one of them out"),
        (None, None) => return at("max_age", "is missing: such a ticket would never expire"),
        (None, Some(lifetime)) if lifetime.default <= 0 => {
            return at("lifetime", "the default must be one day or more");
        }
        (Some(max_age), _) => check_ages(kind.min_age, max_age).or_else(|message| at("max_age", &message))?,
        (None, Some(_)) => check_ages(kind.min_age, 1).or_else(|message| at("min_age", &message))?,
    }
    match kind.key_lifetime {
        Some(seconds) if seconds <= 0 => at("key_lifetime", "must be above 0"),
        Some(_) | None => Ok(()),
    }
}

/// Both ends are exclusive.
fn check_ages(min_age: i64, max_age: i64) -> Result<(), String> {
    if !(-MAX_CLOCK_SKEW..0).contains(&min_age) {
        return Err(format!("min_age must be from -{MAX_CLOCK_SKEW} to -1 seconds, not {min_age}"));
    }
    if !(1..=MAX_AGE_SECONDS).contains(&max_age) {
        return Err(format!("max_age must be from 1 to {MAX_AGE_SECONDS} seconds, not {max_age}"));
    }
    Ok(())
}

fn check_csrf(rules: &CsrfRules) -> Result<HeaderName, Vec<String>> {
    let at = |key: &str, message: String| format!("product.auth.csrf.{key}: {message}");
    let mut problems = Vec::new();
    let header = csrf_header(rules).map_err(|message| problems.push(at("header", message)));
    problems.extend(separator_problem(&rules.separator).map(|message| at("separator", message)));
    problems.extend(check_ages(rules.min_age, rules.max_age).err().map(|message| at("max_age", message)));
    header.ok().filter(|_| problems.is_empty()).ok_or(problems)
}

fn csrf_header(rules: &CsrfRules) -> Result<HeaderName, String> {
    let header: HeaderName =
        rules.header.parse().map_err(|_| format!("'{}' is not a header name", rules.header))?;
    if NO_PROOF.contains(&header) {
        return Err(format!(
            "a foreign page can make a browser send '{header}'; use a header of the product"
        ));
    }
    Ok(header)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The types of keys that the schemes of a profile need.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct KeyTypes {
    pub(super) rsa: bool,
    pub(super) ed25519: bool,
}

impl KeyTypes {
    pub(super) fn new(schemes: &[SignatureScheme]) -> Self {
        let ed25519 = schemes.contains(&SignatureScheme::Ed25519);
        Self { rsa: schemes.iter().any(|scheme| *scheme != SignatureScheme::Ed25519), ed25519 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "
        cookie = 'Session'
        invalid = 'no'
        schemes = ['ed25519']
        user_length = 64
        open = []
        [ticket_form]
        fields = ['prefix', 'time', 'user']
        separator = '.'
        time = 'decimal'
        signature_separator = '.'
        signature = 'base64url'
        half_logins = [{ prefix = 'half!' }]
        [csrf]
        header = 'X-Token'
        secret = '/secret'
        key = 'file'
        mac = 'hmac-sha512'
        encoding = 'hex'
        separator = '.'
        time = 'decimal'
        min_age = -60
        max_age = 3600
        [[ticket]]
        prefix = 'T'
        key = '/key'
        min_age = -61
        max_age = 3601
    ";

    #[test]
    fn a_value_that_weakens_a_check_is_rejected() {
        check(&toml::from_str(RULES).unwrap()).unwrap();
        for (sound, weak, key) in [
            ("'Session'", "'Ses sion'", "product.auth.cookie"),
            ("['ed25519']", "[]", "product.auth.schemes"),
            ("['prefix', 'time', 'user']", "['prefix', 'user']", "ticket_form.fields"),
            ("['prefix', 'time', 'user']", "['time', 'prefix', 'user']", "ticket_form.fields"),
            (
                "separator = '.'\n        time = 'decimal'\n        sig",
                "separator = 'a'\n        time = 'decimal'\n        sig",
                "ticket_form.separator",
            ),
            ("signature_separator = '.'", "signature_separator = ''", "ticket_form.signature_separator"),
            ("signature_separator = '.'", "signature_separator = ':::'", "ticket_form.signature_separator"),
            ("'half!'", "''", "ticket_form.half_logins"),
            ("{ prefix = 'half!' }", "{ prefix = 'half!', complete = '' }", "ticket_form.half_logins"),
            ("'X-Token'", "'X Token'", "csrf.header"),
            ("'X-Token'", "'Cookie'", "csrf.header"),
            ("'X-Token'", "'Content-Type'", "csrf.header"),
            ("prefix = 'T'", "prefix = ''", "prefix"),
            ("max_age = 3601", "", "max_age: is missing"),
            ("max_age = 3601", "max_age = 99999999", "from 1 to"),
            ("min_age = -61", "min_age = -86400", "from -3600"),
            ("max_age = 3600", "max_age = 0", "csrf.max_age"),
            ("min_age = -60", "min_age = 0", "csrf.max_age"),
        ] {
            assert!(RULES.contains(sound), "{sound}");
            let errors = check(&toml::from_str(&RULES.replacen(sound, weak, 1)).unwrap()).unwrap_err();
            assert!(errors.len() == 1 && errors[0].contains(key), "{weak}: {errors:?}");
        }
    }

    #[test]
    fn every_weak_value_is_named_at_once() {
        let mut rules = RULES.to_owned();
        for (sound, weak) in [
            ("'Session'", "'Ses sion'"),
            ("['ed25519']", "[]"),
            ("'half!'", "''"),
            ("separator = '.'", "separator = 'a'"),
            ("'X-Token'", "'Cookie'"),
            ("max_age = 3600", "max_age = 0"),
            ("min_age = -61", "min_age = 0"),
        ] {
            assert!(rules.contains(sound), "{sound}");
            rules = rules.replacen(sound, weak, 1);
        }
        let errors = check(&toml::from_str(&rules).unwrap()).unwrap_err();
        let keys: Vec<_> = errors.iter().filter_map(|error| error.split(':').next()).collect();
        let expected = [
            "product.auth.cookie",
            "product.auth.schemes",
            "product.auth.ticket_form.separator",
            "product.auth.ticket_form.half_logins",
            "product.auth.ticket T",
            "product.auth.csrf.header",
            "product.auth.csrf.max_age",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn omitted_keys_have_no_default() {
        for key in ["half_logins", "schemes", "header", "mac = ", "time = ", "signature = ", "min_age"] {
            let kept: Vec<_> = RULES.lines().filter(|line| !line.trim().starts_with(key)).collect();
            assert!(toml::from_str::<AuthRules>(&kept.join("\n")).is_err(), "{key}");
        }
    }
}
