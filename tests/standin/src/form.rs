//! Parameters of a call: query and body, whichever way they are written.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::answer::Failure;
use crate::record::Recorded;

#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// The query wins over the body, as in the original.
    pub(crate) fn of(request: &Recorded) -> Result<Self, Failure> {
        let mut params = Self::parse(request.query());
        params.0.extend(Self::of_body(request)?.0);
        Ok(params)
    }

    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decoded(name), decoded(value))
                })
                .collect(),
        )
    }

    fn of_body(request: &Recorded) -> Result<Self, Failure> {
        let kind = request.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        match kind {
            _ if request.body.is_empty() => Ok(Self::default()),
            "" | "application/x-www-form-urlencoded" => Ok(Self::parse(&request.text())),
            "application/json" => of_json(&request.body),
            _ => {
                let message = format!("upload 'Content-Type '{kind}' not implemented");
                Err(Failure::new(506, message))
            }
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn number(&self, name: &str, default: u64) -> u64 {
        self.value(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }
}

fn of_json(body: &[u8]) -> Result<Params, Failure> {
    let value: Value = serde_json::from_slice(body).map_err(|error| Failure::new(500, error.to_string()))?;
    let Value::Object(fields) = value else {
        return Err(Failure::new(500, "JSON object expected"));
    };
    let pairs = fields.into_iter().map(|(name, value)| match value.as_str() {
        Some(text) => (name, text.to_owned()),
        None => (name, value.to_string()),
    });
    Ok(Params(pairs.collect()))
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}
