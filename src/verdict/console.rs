//! The answer that names the port or socket of a console.

use serde_json::Value;

use super::api_answer::ApiAnswer;

/// The port or socket that the daemon names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NamedPlace<'a> {
    Port(u64),
    Socket(&'a str),
}

/// `{"data":{"port":…}}` or `{"data":{"socket":…}}`, unless the answer reports a failure.
pub fn named_place(answer: &ApiAnswer) -> Option<NamedPlace<'_>> {
    let data = answer.data().filter(|_| answer.failure().is_none())?;
    if let Some(socket) = data.get("socket").and_then(Value::as_str) {
        return Some(NamedPlace::Socket(socket));
    }
    let port = data.get("port")?;
    port.as_u64().or_else(|| port.as_str()?.parse().ok()).map(NamedPlace::Port)
}
