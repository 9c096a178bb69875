//! Replaces the SPICE proxy in API answers. Daemons name the node itself, which viewers outside of its network cannot
//! resolve, so `tunnel.public` names another proxy.

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use crate::config::Config;
use crate::http::path_pattern::PathPattern;
use crate::http::target::ApiPath;

/// The proxy that viewers can reach, and the answers that name one.
pub struct AdvertisedProxy {
    calls: Vec<PathPattern>,
    /// the field's name in JSON data and in a file for viewers
    field: String,
    url: String,
}

impl AdvertisedProxy {
    /// `None` if the settings name no proxy, or the profile names no calls.
    pub fn new(config: &Config) -> Result<Option<Self>, String> {
        let answers = config.product.connect.as_ref().and_then(|connect| connect.answers.as_ref());
        let (Some(url), Some(answers)) = (&config.settings.tunnel.advertised_proxy, answers) else {
            return Ok(None);
        };
        let calls = answers.calls.iter().map(|call| PathPattern::parse(call)).collect::<Result<_, _>>()?;
        Ok(Some(Self { calls, field: answers.field.clone(), url: url.clone() }))
    }

    /// Whether an answer to this call names a proxy.
    pub(super) fn is_named_by(&self, method: &Method, path: &ApiPath) -> bool {
        self.calls.iter().any(|call| call.matches(method.as_str(), path.segments()))
    }

    /// The answer with the public proxy in it. An answer that names no proxy stays unchanged.
    pub(super) fn rewrite(&self, answer: Bytes) -> Bytes {
        self.rewrite_json(&answer).or_else(|| self.rewrite_file(&answer)).map_or(answer, Bytes::from)
    }

    /// `{"data":{FIELD:…}}`
    fn rewrite_json(&self, answer: &[u8]) -> Option<Vec<u8>> {
        let mut json: Value = serde_json::from_slice(answer).ok()?;
        let field = json.get_mut("data")?.get_mut(&self.field).filter(|field| field.is_string())?;
        *field = Value::String(self.url.clone());
        serde_json::to_vec(&json).ok()
    }

    /// A section of lines `FIELD=…`, as viewers read them from a file.
    fn rewrite_file(&self, answer: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(answer).ok().filter(|text| text.starts_with('['))?;
        let names = |line: &str| line.strip_prefix(&self.field).is_some_and(|rest| rest.starts_with('='));
        if !text.lines().any(names) {
            return None;
        }
        let lines = text.split_inclusive('\n').map(|line| {
            if !names(line) {
                return line.to_owned();
            }
            let end = line.get(line.trim_end_matches(['\r', '\n']).len()..).unwrap_or_default();
            format!("{}={}{end}", self.field, self.url)
        });
        Some(lines.collect::<String>().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(answer: &'static str) -> String {
        let calls = vec![PathPattern::parse("POST /nodes/{node}/shell").unwrap()];
        let proxy =
            AdvertisedProxy { calls, field: "proxy".to_owned(), url: "https://a.example:443".to_owned() };
        String::from_utf8(proxy.rewrite(Bytes::from_static(answer.as_bytes())).to_vec()).unwrap()
    }

    #[test]
    fn only_a_named_proxy_is_replaced() {
        for (answer, expected) in [
            (
                r#"{"data":{"host":"t:1","proxy":"http://n1:3128","tls-port":61000}}"#,
                r#"{"data":{"host":"t:1","proxy":"https://a.example:443","tls-port":61000}}"#,
            ),
            (
                "[virt-viewer]\nhost=t:1\nproxy=http://n1:3128\npassword=proxy=x\n",
                "[virt-viewer]\nhost=t:1\nproxy=https://a.example:443\npassword=proxy=x\n",
            ),
            ("[a]\r\nproxy=x\r\nb=c", "[a]\r\nproxy=https://a.example:443\r\nb=c"),
        ] {
            assert_eq!(rewrite(answer), expected);
        }
        assert!(rewrite(r#"{"success":1,"data":{"proxy":"x"}}"#).contains("https://a.example:443"));
    }

    #[test]
    fn answers_without_a_proxy_stay_unchanged() {
        for answer in [
            r#"{"data":null,"message":"proxy"}"#,
            r#"{"data":{"proxy":3128}}"#,
            r#"{ "data": { "proxies": "x" } }"#,
            r#"{"proxy":"x"}"#,
            r#"{"data":{"proxy":"x"}"#,
            r#"["proxy=x"]"#,
            "proxy=x\n",
            "[virt-viewer]\nproxyx=y\n#proxy=x\n",
            "",
        ] {
            assert_eq!(rewrite(answer), answer);
        }
    }
}
