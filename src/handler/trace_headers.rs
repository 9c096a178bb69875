//! Headers that connect a request with the logs of other systems: nodegate's request number and the client's
//! `traceparent`.

use http::header::HeaderMap;
use http::{HeaderName, HeaderValue, Response};

use crate::config::settings::TraceSettings;
use crate::os::request_context;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The headers that go to the daemon with a request.
pub fn headers(
    tracing: &TraceSettings,
    client: &HeaderMap,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let parent = if tracing.traceparent { parent(client) } else { None };
    let parent = parent.map(|value| (TRACEPARENT, value.clone()));
    number(tracing).into_iter().chain(parent)
}

/// Adds the request's number to the client's answer.
pub fn add_request_number<B>(tracing: &TraceSettings, response: &mut Response<B>) {
    if let Some((name, value)) = number(tracing) {
        response.headers_mut().insert(name, value);
    }
}

fn number(tracing: &TraceSettings) -> Option<(HeaderName, HeaderValue)> {
    let name = tracing.number.clone()?;
    let id = request_context::current_id()?;
    Some((name, HeaderValue::try_from(id.to_string()).ok()?))
}

/// The valid value. Several values are ambiguous, so none of them counts.
fn parent(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|value| is_parent(value.as_bytes()))?;
    values.next().is_none().then_some(value)
}

/// W3C Trace Context level 1, section 3.2: `00-<32 hex>-<16 hex>-<2 hex>` in lower case, with neither part all zeros.
/// Later versions may have more fields, and are rejected.
fn is_parent(value: &[u8]) -> bool {
    let mut parts = value.split(|byte| *byte == b'-');
    let mut hex = |length: usize| {
        parts.next().filter(|part| {
            part.len() == length && part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let is_nonzero = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    let version = hex(2) == Some(b"00");
    let trace = hex(32).is_some_and(is_nonzero);
    let span = hex(16).is_some_and(is_nonzero);
    let flags = hex(2).is_some();
    version && trace && span && flags && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_values_are_a_parent() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_parent(good.as_bytes()));
        for bad in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-00",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
        ] {
            assert!(!is_parent(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn two_parents_are_ambiguous() {
        let good = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, good.clone());
        assert_eq!(parent(&headers), Some(&good));
        headers.append(TRACEPARENT, good);
        assert_eq!(parent(&headers), None);
    }
}
