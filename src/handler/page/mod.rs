//! Pages rendered from the product's own templates. Which template, and what its variables are, says the profile.

pub mod inert;
mod parser;
mod syntax;
pub mod template;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, USER_AGENT, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response};

use self::template::Template;
use self::variables::{Circumstances, Variables};
use crate::config::Config;
use crate::gate::{Login, joined};
use crate::response::body::{self, Body};
use crate::response::compress::{self, Coding};
use crate::watched_file::{FileError, WatchedFile};

/// Codings in the order of preference.
const OFFERED: [Coding; 4] = [Coding::Brotli, Coding::Zstd, Coding::Gzip, Coding::Deflate];

/// Bytes up to which compressing saves next to nothing.
const TOO_SMALL_TO_COMPRESS: usize = 1024;

/// All pages of a product.
pub struct Pages {
    all: Vec<Page>,
    variables: Variables,
    compression_enabled: bool,
}

struct Page {
    url: String,
    choices: Vec<Choice>,
}

struct Choice {
    when: Vec<String>,
    template: Arc<WatchedFile<Template>>,
}

/// Why there is no page to send. Names no path, so it may be shown.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("no template of the profile is for this request")]
    NoTemplate,
    #[error("the template '{name}' of this page is missing; is its package installed?")]
    Missing { name: String },
    #[error("the template '{name}' of this page cannot be read")]
    Unreadable { name: String },
    #[error("the template '{name}' of this page, {message}")]
    Unsupported { name: String, message: String },
    #[error("the template '{name}' of this page: {message}")]
    TooLong { name: String, message: String },
}

impl Pages {
    pub fn new(config: &Config) -> Result<Self, String> {
        let product = &config.product;
        let variables = Variables::new(&product.variable, &config.settings.node_name, &config.root)?;
        let mut templates: BTreeMap<&Path, Arc<WatchedFile<Template>>> = BTreeMap::new();
        let mut pages = Vec::new();
        for page in &product.page {
            let mut choices = Vec::new();
            for choice in &page.template {
                if let Some(name) = choice.when.iter().find(|name| !variables.is_declared(name)) {
                    return Err(format!("page {}: the variable '{name}' is not declared", page.url));
                }
                let template = templates
                    .entry(&choice.file)
                    .or_insert_with(|| Arc::new(WatchedFile::new(config.root.path(&choice.file), parse)));
                choices.push(Choice { when: choice.when.clone(), template: Arc::clone(template) });
            }
            pages.push(Page { url: page.url.clone(), choices });
        }
        Ok(Self { all: pages, variables, compression_enabled: config.settings.compression })
    }

    /// The answer to a GET or HEAD for the page at `path`.
    pub async fn serve(
        &self,
        path: &str,
        head: &Parts,
        login: Option<&Login>,
    ) -> Result<Response<Body>, PageError> {
        let cookies = joined(&head.headers, &COOKIE);
        let user_agent = joined(&head.headers, &USER_AGENT);
        let circumstances = Circumstances {
            cookies: &cookies,
            query: head.uri.query().unwrap_or_default(),
            user_agent: &user_agent,
            login,
        };
        let page = self.render(path, &circumstances)?;
        Ok(self.response(Bytes::from(page), head).await)
    }

    /// What is wrong with the templates, each named once, for `check`.
    pub fn template_errors(&self) -> Vec<FileError> {
        let choices = self.all.iter().flat_map(|page| &page.choices);
        let templates: BTreeMap<_, _> =
            choices.map(|choice| (choice.template.path(), &choice.template)).collect();
        templates.values().filter_map(|template| template.current().err()).collect()
    }

    fn render(&self, path: &str, circumstances: &Circumstances<'_>) -> Result<String, PageError> {
        let value = |name: &str| self.variables.value(name, circumstances);
        let page = self.all.iter().find(|page| page.url == path).ok_or(PageError::NoTemplate)?;
        let choice = page
            .choices
            .iter()
            .find(|choice| choice.when.iter().all(|name| value(name).is_some_and(|value| value.is_true())))
            .ok_or(PageError::NoTemplate)?;
        let name = || choice.template.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let template = choice.template.current().map_err(|error| {
            tracing::error!(%error, "a page cannot be rendered");
            match error {
                FileError::Malformed { message, .. } => {
                    PageError::Unsupported { name: name(), message: message.to_string() }
                }
                error if error.is_missing() => PageError::Missing { name: name() },
                FileError::Unreadable { .. } | FileError::Silent { .. } => {
                    PageError::Unreadable { name: name() }
                }
            }
        })?;
        let values =
            template.value.names().filter_map(|name| Some((name.to_owned(), value(name)?))).collect();
        template
            .value
            .render(&values)
            .map_err(|error| PageError::TooLong { name: name(), message: error.to_string() })
    }

    async fn response(&self, page: Bytes, head: &Parts) -> Response<Body> {
        let coded = match self.coding(&page, &head.headers) {
            Some(coding) => compress::compress(coding, page.clone()).await.ok().map(|bytes| (coding, bytes)),
            None => None,
        };
        let (bytes, coding) = match coded {
            Some((coding, bytes)) => (bytes, Some(coding)),
            None => (page, None),
        };
        let length = HeaderValue::from(bytes.len());
        let is_head = head.method == Method::HEAD;
        let mut response = Response::new(if is_head { body::empty() } else { body::full(bytes) });
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=UTF-8"));
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        if let Some(coding) = coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
        }
        response
    }

    fn coding(&self, page: &Bytes, headers: &HeaderMap) -> Option<Coding> {
        if !self.compression_enabled || page.len() <= TOO_SMALL_TO_COMPRESS {
            return None;
        }
        let lines: Option<Vec<_>> =
            headers.get_all(ACCEPT_ENCODING).iter().map(|line| line.to_str().ok()).collect();
        compress::negotiate(Some(&lines?.join(", ")), &OFFERED)
    }
}

fn parse(bytes: &[u8]) -> Result<Template, String> {
    Template::parse(bytes).map_err(|error| error.to_string())
}
