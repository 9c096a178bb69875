//! URLs whose query names the version of their file. After an upgrade a page names other URLs, so browsers may keep the
//! files of these without a question.

use http::header::CACHE_CONTROL;
use http::{HeaderValue, Response};

use crate::http::target::query_parameters;

/// A month (RFC 9111), and no question even if the user reloads the page (RFC 8246). If a client gets a file while its
/// package is replaced, under the version of the new one, the wrong file has an end as well.
const KEEP: HeaderValue = HeaderValue::from_static("max-age=2592000, immutable");

/// The query parameters that name a version.
#[derive(Debug)]
pub struct VersionedUrls {
    parameters: Vec<String>,
}

impl VersionedUrls {
    pub fn new(parameters: Vec<String>) -> Self {
        Self { parameters }
    }

    /// Lets browsers keep a file, or what they have of it, if the query of its URL names a version.
    pub fn mark<B>(&self, query: &str, response: &mut Response<B>) {
        if self.names_version(query) {
            response.headers_mut().insert(CACHE_CONTROL, KEEP);
        }
    }

    /// An empty version is none: a page has it where its template knows no better.
    fn names_version(&self, query: &str) -> bool {
        let is_version = |name: &str| self.parameters.iter().any(|known| known == name);
        query_parameters(query)
            .any(|(name, value)| is_version(&name) && value.is_some_and(|version| !version.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_in_the_query_counts() {
        let urls = VersionedUrls::new(vec!["ver".to_owned(), "v".to_owned()]);
        for (query, expected) in [
            ("ver=9.2.11", true),
            ("a=b&v=4.7.0", true),
            ("ver=", false),
            ("ver", false),
            ("version=1", false),
            ("_dc=1764000000", false),
            ("", false),
        ] {
            let mut response = Response::new(());
            urls.mark(query, &mut response);
            assert_eq!(response.headers().contains_key(CACHE_CONTROL), expected, "{query:?}");
        }
        assert!(!VersionedUrls::new(Vec::new()).names_version("ver=1"), "a profile that lists none");
    }
}
