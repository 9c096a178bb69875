//! Calls by which credentials can be guessed: passwords, second factors, codes of an identity provider.

use http::header::SET_COOKIE;
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::api_answer::ApiAnswer;
use super::shown::ShownMembers;
use super::{AnswerView, CredentialVerdict};
use crate::config::product;
use crate::http::path_pattern::{PathPattern, verb};
use crate::http::target::ApiPath;

/// The calls of a profile by which clients can guess credentials. Logged-in users count as well: they can guess those of
/// other users.
pub struct LoginCalls {
    guesses: Vec<(PathPattern, LoginProof)>,
    open: Vec<PathPattern>,
}

/// The proof, in an answer, that a credential was right.
pub struct LoginProof {
    members: ShownMembers,
    /// the beginning of a cookie that a page sets after a login
    cookies: Vec<String>,
}

impl LoginCalls {
    /// # Errors
    ///
    /// A call is no `METHOD PATTERN`, or a member has no name.
    pub fn new(auth: &product::AuthRules) -> Result<Self, String> {
        let separator = &auth.ticket_form.separator;
        let cookies: Vec<_> =
            auth.ticket.iter().map(|kind| format!("{}={}{separator}", auth.cookie, kind.prefix)).collect();
        let proof = |call: &str, shows: &[String]| {
            let members = ShownMembers::parse(shows)?;
            Ok((PathPattern::parse(call)?, LoginProof { members, cookies: cookies.clone() }))
        };
        let named = auth.login.iter().map(|login| proof(&login.call, &login.shows));
        // Only reading is harmless unless the profile says otherwise.
        let open = auth.open.iter().filter(|call| !call.starts_with("GET ")).map(|call| proof(call, &[]));
        let guesses = named.chain(open).collect::<Result<_, String>>();
        let guesses = guesses.map_err(|what| format!("product.auth.login and open: {what}"))?;
        let open = auth.open.iter().map(|call| PathPattern::parse(call)).collect::<Result<_, _>>();
        let open = open.map_err(|what: String| format!("product.auth.open: {what}"))?;
        Ok(Self { guesses, open })
    }

    /// Whether the daemon answers the call without verifying a credential. nodegate normalises the path that it sends:
    /// `/access/ticket/` needs a login here, but is an open call there.
    pub fn is_open(&self, method: &Method, path: &ApiPath) -> bool {
        self.open.iter().any(|call| call.matches(verb(method), path.segments()))
    }

    /// The proof that this call succeeded; `None` for a call that guesses nothing.
    pub fn proof(&self, method: &Method, path: &ApiPath) -> Option<&LoginProof> {
        let is_called = |call: &PathPattern| call.matches(verb(method), path.segments());
        self.guesses.iter().find(|(call, _)| is_called(call)).map(|(_, proof)| proof)
    }
}

impl LoginProof {
    pub fn verdict(&self, answer: &AnswerView<'_>) -> CredentialVerdict {
        if answer.status == StatusCode::UNAUTHORIZED {
            return CredentialVerdict::Refused;
        }
        if answer.is_redirect_or_success() && self.is_in_cookie(answer) {
            return CredentialVerdict::Accepted;
        }
        let read = answer.body.filter(|_| answer.status.is_success());
        match read.and_then(|body| ApiAnswer::read(answer.headers, body)) {
            Some(read) if read.failure().is_some() => CredentialVerdict::Refused,
            Some(read) if self.members.are_in(&read) => CredentialVerdict::Accepted,
            Some(_) | None => CredentialVerdict::Unclear,
        }
    }

    fn is_in_cookie(&self, answer: &AnswerView<'_>) -> bool {
        let is_ticket = |cookie: &str| {
            let decoded = percent_decode_str(cookie).decode_utf8_lossy();
            self.cookies.iter().any(|beginning| decoded.starts_with(beginning.as_str()))
        };
        answer.headers.get_all(SET_COOKIE).iter().filter_map(|cookie| cookie.to_str().ok()).any(is_ticket)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::config::{Config, ConfigSources};
    use crate::http::api_grammar::tests::named_formats;
    use crate::http::target::RequestTarget;
    use crate::verdict::api_answer::tests::of_type;

    const JSON: &str = "application/json;charset=UTF-8";
    const HTML: &str = "text/html;charset=UTF-8";

    fn proof(shows: &[&str]) -> LoginProof {
        let shows: Vec<_> = shows.iter().map(|text| (*text).to_owned()).collect();
        LoginProof { members: ShownMembers::parse(&shows).unwrap(), cookies: vec!["Auth=T:".to_owned()] }
    }

    fn verdict(shows: &[&str], status: u16, headers: &HeaderMap, body: &str) -> CredentialVerdict {
        let status = StatusCode::from_u16(status).unwrap();
        proof(shows).verdict(&AnswerView { status, headers, body: Some(body.as_bytes()) })
    }

    #[test]
    fn a_ticket_that_is_shown_is_a_login() {
        for (kind, body) in [
            (JSON, r#"{"data":{"ticket":"T:x"}}"#),
            (JSON, r#"{"data":{"ticket":"T:!tfa!x","NeedTFA":1}}"#),
            (JSON, r#"{"success":1,"data":{"user":"a"}}"#),
            (HTML, "{&quot;success&quot;:1,&quot;data&quot;:{&quot;ticket&quot;:&quot;T&quot;}}"),
        ] {
            let verdict = verdict(&["data.ticket", "data.user"], 200, &of_type(kind), body);
            assert_eq!(verdict, CredentialVerdict::Accepted, "{body}");
        }
    }

    #[test]
    fn responses_without_ticket_are_no_login() {
        for (status, kind, body) in [
            (401, JSON, r#"{"data":{"ticket":"T"}}"#),
            (500, JSON, r#"{"data":{"ticket":"T"}}"#),
            (301, JSON, r#"{"data":{"ticket":"T"}}"#),
            (200, JSON, r#"{"data":null}"#),
            (200, JSON, r#"{"data":{"ticket":""}}"#),
            (200, JSON, r#"{"data":{"ticket":1}}"#),
            (200, JSON, r#"{"ticket":"T"}"#),
            (200, JSON, r#"{"success":0,"status":401,"data":{"ticket":"T"}}"#),
            (200, JSON, r#"{"data":{"ticket":"T"}"#),
            (200, JSON, ""),
            (200, HTML, r#"{"data":{"ticket":"T"}}"#),
            (200, HTML, "{&quot;success&quot;:0,&quot;status&quot;:401,&quot;data&quot;:null}"),
            (200, HTML, "<html>ticket</html>"),
            (200, "image/png", "\u{89}PNG"),
            (200, "application/x-virt-viewer", "[virt-viewer]\nticket=T:x\n"),
        ] {
            let verdict = verdict(&["data.ticket"], status, &of_type(kind), body);
            assert_ne!(verdict, CredentialVerdict::Accepted, "{status} {body}");
        }
        let view = AnswerView { status: StatusCode::OK, headers: &of_type(JSON), body: None };
        assert_eq!(proof(&[]).verdict(&view), CredentialVerdict::Unclear, "a body that is not held");
    }

    #[test]
    fn a_page_shows_its_ticket_in_a_cookie() {
        let with = |cookie| {
            let mut headers = of_type(HTML);
            headers.append(SET_COOKIE, HeaderValue::from_static("other=1"));
            headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
            headers
        };
        let verdict = |status, cookie| verdict(&["data.ticket"], status, &with(cookie), "");
        assert_eq!(verdict(301, "Auth=T%3Aroot; path=/; secure"), CredentialVerdict::Accepted);
        assert_eq!(verdict(200, "Auth=T:root"), CredentialVerdict::Accepted);
        for cookie in ["Auth=; path=/", "Auth=X:root", "xAuth=T:root", "Auth=T"] {
            assert_ne!(verdict(301, cookie), CredentialVerdict::Accepted, "{cookie}");
        }
        assert_ne!(verdict(401, "Auth=T:root"), CredentialVerdict::Accepted);
    }

    #[test]
    fn the_status_is_enough_where_nothing_is_shown() {
        let verdict = |status, body| verdict(&[], status, &of_type(JSON), body);
        assert_eq!(verdict(200, r#"{"data":null}"#), CredentialVerdict::Accepted);
        assert_eq!(verdict(200, r#"{"data":null,"success":1}"#), CredentialVerdict::Accepted);
        assert_eq!(verdict(200, r#"{"data":null,"success":0}"#), CredentialVerdict::Refused);
        assert_eq!(verdict(200, "ok"), CredentialVerdict::Unclear);
        assert_eq!(verdict(501, r#"{"data":null}"#), CredentialVerdict::Unclear);
    }

    #[test]
    fn reads_are_attempts_only_by_profile() {
        let call = |text| (PathPattern::parse(text).unwrap(), proof(&["data"]));
        let guesses = vec![call("GET /login"), call("POST /realms")];
        let calls = LoginCalls { guesses, open: Vec::new() };
        let is_guess = |method, path| match RequestTarget::parse(path, &named_formats()).unwrap() {
            RequestTarget::Api(path) => calls.proof(&method, &path).is_some(),
            RequestTarget::NoSuchUri | RequestTarget::Path(_) => false,
        };
        let (login, realms) = ("/api2/json/login", "/api2/json/realms");
        assert!(is_guess(Method::GET, login) && is_guess(Method::HEAD, login));
        assert!(!is_guess(Method::GET, realms) && !is_guess(Method::HEAD, realms));
        assert!(is_guess(Method::POST, realms) && is_guess(Method::POST, "/api2/json//realms/"));
    }

    #[test]
    fn a_call_is_open_as_it_is_sent() {
        for profile in ["pve", "pmg"] {
            let config = Config::load(profile, &ConfigSources::default()).unwrap();
            let auth = config.product.auth.unwrap();
            let calls = LoginCalls::new(&auth).unwrap();
            let is_open =
                |method: &Method, path: &str| match RequestTarget::parse(path, &named_formats()).unwrap() {
                    RequestTarget::Api(path) => calls.is_open(method, &path),
                    RequestTarget::NoSuchUri | RequestTarget::Path(_) => false,
                };
            for (method, path) in auth.open.iter().map(|call| call.split_once(' ').unwrap()) {
                let (verb, inner) = (method.parse().unwrap(), path.trim_start_matches('/'));
                for sent in [
                    path.to_owned(),
                    format!("{path}/"),
                    format!("/{path}"),
                    format!("{path}%2F"),
                    format!("/%2F{inner}"),
                    format!("/{}", inner.replace('/', "//")),
                    format!("/{}", inner.replace('/', "%2F")),
                    format!("/{}", inner.replace('/', "/%2f")),
                    path.replace("ss", "%73s"),
                ] {
                    let sent = format!("/api2/json{sent}");
                    assert!(is_open(&verb, &sent), "{profile}: {method} {sent}");
                    if method == "GET" {
                        assert!(is_open(&Method::HEAD, &sent), "{profile}: HEAD {sent}");
                    }
                    assert!(!is_open(&Method::DELETE, &sent), "{profile}: DELETE {sent}");
                }
                for other in
                    [format!("{path}x"), format!("{path}/x"), format!("/x{path}"), format!("/.{path}")]
                {
                    assert!(!is_open(&verb, &format!("/api2/json{other}")), "{profile}: {method} {other}");
                }
            }
        }
    }

    #[test]
    fn built_in_profiles_list_each_open_call() {
        for profile in ["pve", "pmg"] {
            let config = Config::load(profile, &ConfigSources::default()).unwrap();
            let auth = config.product.auth.unwrap();
            for call in auth.open.iter().filter(|call| !call.starts_with("GET ")) {
                assert!(auth.login.iter().any(|login| login.call == *call), "{profile}: {call}");
            }
        }
    }
}
