//! The header to log in with, from a file or a variable, so that the list of processes does not show it.

use std::path::Path;

use http::{HeaderName, HeaderValue};

use super::client::RequestHeader;

/// Error texts do not repeat the contents.
pub(crate) fn read(file: Option<&Path>, variable: Option<&str>) -> Result<Option<RequestHeader>, String> {
    let (text, place) = match (file, variable) {
        (Some(path), _) => {
            let place = path.display().to_string();
            (std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?, place)
        }
        (None, Some(name)) => {
            (std::env::var(name).map_err(|error| format!("{name}: {error}"))?, name.to_owned())
        }
        (None, None) => return Ok(None),
    };
    let known = parse(text.trim());
    known.map(Some).ok_or_else(|| format!("{place}: must hold one line, `Authorization: …` or `Cookie: …`"))
}

fn parse(line: &str) -> Option<RequestHeader> {
    let (name, value) = line.split_once(':')?;
    let name: HeaderName = name.parse().ok()?;
    let value = HeaderValue::try_from(value.trim()).ok()?;
    (["authorization", "cookie"].contains(&name.as_str()) && !value.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_one_header_line() {
        for line in ["Cookie: a=b", "authorization: PVEAPIToken=a@pve!b=c", "COOKIE:a"] {
            assert!(parse(line).is_some(), "{line}");
        }
        for line in ["", "Cookie", "Cookie:", "Host: a", "Cookie: a\r\nX: y", "a=b", "Co okie: a"] {
            assert!(parse(line).is_none(), "{line:?}");
        }
    }
}
