//! Answers of a daemon that nodegate acts on: none of them shows a success that is not there.
//!
//! An input is three lines, then the body: the status, `Content-Type`, `Set-Cookie`.

use std::path::{Component, Path};
use std::sync::LazyLock;

use http::header::{CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use nodegate::testing::config::RootDirectory;
use nodegate::testing::config::{Config, ConfigSources};
use nodegate::testing::handler::{ConsoleRules, ConsoleTarget};
use nodegate::testing::http::ApiGrammar;
use nodegate::testing::http::{ApiPath, RequestTarget};
use nodegate::testing::verdict::ApiAnswer;
use nodegate::testing::verdict::LoginCalls;
use nodegate::testing::verdict::ShownMembers;
use nodegate::testing::verdict::TokenCheck;
use nodegate::testing::verdict::{AnswerView, CredentialVerdict, permission, token, upload};
use serde_json::Value;

const OBJECT: &str = "/storage/a.b";
const PRIVILEGE: &str = "Datastore.AllocateTemplate";

static PROFILE: LazyLock<Config> = LazyLock::new(|| {
    let options = ConfigSources { root: RootDirectory::new("/".into()), sets: Vec::new() };
    Config::load("pve", &options).unwrap_or_else(|_| panic!("the profile"))
});
static LOGINS: LazyLock<LoginCalls> =
    LazyLock::new(|| LoginCalls::new(PROFILE.product.auth.as_ref().unwrap()).unwrap());
static CONSOLES: LazyLock<ConsoleRules> = LazyLock::new(|| ConsoleRules::new(&PROFILE).unwrap().unwrap());
static TICKET: LazyLock<ApiPath> = LazyLock::new(|| {
    match RequestTarget::parse("/api2/json/access/ticket", &ApiGrammar::new(&PROFILE.product).unwrap())
        .unwrap()
    {
        RequestTarget::Api(path) => path,
        RequestTarget::NoSuchUri | RequestTarget::Path(_) => panic!("it is a call"),
    }
});

struct Answer<'a> {
    status: StatusCode,
    headers: HeaderMap,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
        let status = StatusCode::from_bytes(parts.next()?).ok()?;
        let mut headers = HeaderMap::new();
        for name in [CONTENT_TYPE, SET_COOKIE] {
            let value = parts.next()?;
            if !value.is_empty() {
                headers.append(name, HeaderValue::from_bytes(value).ok()?);
            }
        }
        Some(Self { status, headers, body: parts.next()? })
    }

    fn view(&self) -> AnswerView<'_> {
        AnswerView { status: self.status, headers: &self.headers, body: Some(self.body) }
    }

    fn cookie(&self) -> Option<&str> {
        self.headers.get(SET_COOKIE)?.to_str().ok()
    }

    /// The content of the response, read by another reader: an object without a failure.
    fn success(&self) -> Option<Value> {
        let value = self.value()?;
        let is_success = match value.as_object()?.get("success") {
            None => true,
            Some(Value::Bool(yes)) => *yes,
            Some(Value::Number(number)) => number.as_u64() == Some(1),
            Some(_) => false,
        };
        is_success.then_some(value)
    }

    fn value(&self) -> Option<Value> {
        let kind =
            self.headers.get(CONTENT_TYPE).map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
        let kind = kind.unwrap_or_default().to_lowercase();
        if kind.split(';').next().unwrap().trim() != "text/html" {
            return serde_json::from_slice(self.body).ok();
        }
        let value: Value = serde_json::from_str(&plain(std::str::from_utf8(self.body).ok()?)).ok()?;
        value.get("success").is_some().then_some(value)
    }
}

/// The text of a page, entity after entity from the left.
fn plain(page: &str) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        let entity = after.split_once(';').filter(|(name, _)| {
            let name = name.strip_prefix('#').unwrap_or(name);
            let is_name = name.chars().all(|it| it.is_ascii_digit() || it.is_ascii_alphabetic());
            character == '&' && is_name && !name.is_empty() && name.len() < 11
        });
        let Some((name, behind)) = entity else {
            text.push(character);
            rest = after;
            continue;
        };
        let code = name.strip_prefix("#x").or(name.strip_prefix("#X")).map(|it| u32::from_str_radix(it, 16));
        let code = code.or_else(|| name.strip_prefix('#').map(str::parse));
        let named = [("quot", '"'), ("amp", '&'), ("lt", '<'), ("gt", '>'), ("apos", '\'')];
        let named = named.into_iter().find_map(|(own, it)| (own == name).then_some(it));
        let numbered = code.and_then(Result::ok).and_then(char::from_u32);
        text.push(named.or(numbered).unwrap_or('\u{fffd}'));
        rest = behind;
    }
    text
}

fn is_text(value: Option<&Value>) -> bool {
    value.and_then(Value::as_str).is_some_and(|text| !text.is_empty())
}

/// A login is one where a ticket or its user is shown, in the body of a success or in a cookie, and nowhere else.
pub(crate) fn login(bytes: &[u8]) {
    let Some(answer) = Answer::read(bytes) else { return };
    let proof = LOGINS.proof(&Method::POST, &TICKET).unwrap();
    let verdict = proof.verdict(&answer.view());
    let (success, redirect) = (answer.status.is_success(), answer.status.is_redirection());
    // The daemon verifies a privilege without a ticket; then it names only the user.
    let shown = |it: &Value| {
        ["ticket", "username"].iter().any(|name| is_text(it.get("data").and_then(|data| data.get(name))))
    };
    let in_body = success && answer.success().is_some_and(|it| shown(&it));
    let in_cookie = (success || redirect)
        && answer.cookie().is_some_and(|it| {
            let cookie = percent_encoding::percent_decode_str(it).decode_utf8_lossy();
            cookie.strip_prefix("PVEAuthCookie=").is_some_and(|it| it.starts_with("PVE:"))
        });
    assert_eq!(verdict == CredentialVerdict::Accepted, in_body || in_cookie, "{verdict:?}");
    let unread = AnswerView { body: None, ..answer.view() };
    assert_eq!(
        proof.verdict(&unread) == CredentialVerdict::Accepted,
        in_cookie,
        "a body that is not held shows nothing"
    );
    if in_body && !in_cookie {
        let cut = answer.body.trim_ascii_end();
        let cut = AnswerView { body: cut.split_last().map(|(_, rest)| rest), ..answer.view() };
        assert_ne!(proof.verdict(&cut), CredentialVerdict::Accepted, "an answer that broke off");
    }
}

/// Only 401, redirects and a body with a failure reject a token, and 5xx never accepts one.
pub(crate) fn api_token(bytes: &[u8]) {
    let Some(answer) = Answer::read(bytes) else { return };
    let [verdict, of_peer, of_open_call] = [TokenCheck::Daemon, TokenCheck::Peer, TokenCheck::Skipped]
        .map(|check| token::verdict(&answer.view(), check));
    assert_eq!(of_open_call, CredentialVerdict::Unclear, "an open call proves nothing");
    assert!(
        of_peer == verdict || of_peer == CredentialVerdict::Unclear && verdict == CredentialVerdict::Accepted
    );
    assert!(
        answer.status != StatusCode::FORBIDDEN || of_peer != CredentialVerdict::Accepted,
        "403 of a peer"
    );
    if verdict == CredentialVerdict::Accepted {
        assert!(
            answer.status.is_success() || matches!(answer.status.as_u16(), 101 | 403),
            "{} is no success",
            answer.status
        );
        let told = answer.value().filter(Value::is_object).filter(|_| answer.success().is_none());
        let told = told.and_then(|it| it.get("status").and_then(Value::as_u64));
        assert_ne!(told, Some(401), "the body refuses it");
    }
    if answer.status == StatusCode::UNAUTHORIZED {
        assert_eq!(verdict, CredentialVerdict::Refused);
    }
}

/// A privilege counts where the answer names it for this very object.
pub(crate) fn permission(bytes: &[u8]) {
    let Some(answer) = Answer::read(bytes) else { return };
    let granted = permission::is_granted(&answer.view(), OBJECT, PRIVILEGE);
    let named = answer.success().and_then(|it| it.get("data")?.get(OBJECT)?.get(PRIVILEGE).cloned());
    let is_flag = named.is_some_and(|it| match it {
        Value::Number(number) => matches!(number.as_u64(), Some(0 | 1)),
        Value::String(text) => matches!(text.as_str(), "0" | "1"),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    });
    assert_eq!(granted, answer.status == StatusCode::OK && is_flag);
}

/// The daemon has a file where it names the task that takes it.
pub(crate) fn upload(bytes: &[u8]) {
    let Some(answer) = Answer::read(bytes) else { return };
    let shows = ShownMembers::parse(&["data".to_owned()]).unwrap();
    let taken = upload::is_taken(&answer.view(), &shows);
    let named = answer.success().is_some_and(|it| is_text(it.get("data")));
    assert_eq!(taken, answer.status.is_success() && named);
    assert!(!upload::is_taken(&AnswerView { body: None, ..answer.view() }, &shows));
}

/// Where nodegate connects for a console is a port or a socket that the profile allows.
pub(crate) fn console_place(bytes: &[u8]) {
    let Some(answer) = Answer::read(bytes) else { return };
    let Some(read) = ApiAnswer::read(&answer.headers, answer.body) else { return };
    let allowed = PROFILE.product.console.as_ref().unwrap();
    match CONSOLES.find_target(&read) {
        Ok(None) | Err(_) => (),
        Ok(Some(target)) => {
            let said = answer.success().expect("an answer that tells of a failure names no place");
            let data = said.get("data").unwrap();
            match target {
                ConsoleTarget::Port(port) => {
                    let (first, last) = allowed.ports.split_once('-').unwrap();
                    let (first, last): (u16, u16) = (first.parse().unwrap(), last.parse().unwrap());
                    assert!((first..=last).contains(&port), "{port}");
                    let named = data.get("port").unwrap();
                    assert_eq!(
                        named.to_string().trim_matches('"').trim_start_matches(['+', '0']),
                        port.to_string()
                    );
                }
                ConsoleTarget::Socket(path) => {
                    assert!(path.components().all(|part| part != Component::ParentDir), "{}", path.display());
                    let below = |directory: &Path| path.starts_with(directory) && path != directory;
                    assert!(allowed.sockets.iter().any(|it| below(it)), "{}", path.display());
                    assert_eq!(data.get("socket").and_then(Value::as_str), path.to_str());
                }
            }
        }
    }
}
