//! Pages that nodegate renders from the product's own templates. The profile names the templates and their variables.

mod faults;
pub mod sanitized;
mod source;
pub mod template;
#[cfg(test)]
mod tests;
mod variables;
pub mod worker;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, USER_AGENT, VARY};
use http::request::Parts;
use http::{HeaderValue, Method, Response};

pub use self::faults::{NOT_INSTALLED, RENDERED_BY_WORKER};
use self::template::{RenderError, RenderedTemplate, Template};
use self::variables::{ProfileVariables, VariableContext};
use crate::auth::authenticator::{PageLogin, joined};
use crate::config::Config;
use crate::config::page::TemplateCondition;
use crate::fs::cached_file::{CachedFile, FileError};
use crate::http::body::{self, ResponseBody};
use crate::http::compression;
use crate::os::log_limit::{self, LeftOut, LogTopic};

/// Compression of a smaller page saves almost nothing.
const MIN_COMPRESSED_BYTES: usize = 1025;

/// All pages of a product.
pub struct PageSet {
    all: Vec<ProfilePage>,
    variables: ProfileVariables,
    compression_enabled: bool,
    worker: worker::PageWorker,
}

struct ProfilePage {
    url: String,
    choices: Vec<ParsedChoice>,
}

struct ParsedChoice {
    when: Vec<TemplateCondition>,
    /// a request that uses this template
    target: Option<String>,
    template: Arc<TemplateFile>,
}

/// A template, shared by all choices that name the same file.
struct TemplateFile {
    file: CachedFile<Template>,
}

/// The reason why there is no page. It names no path, so the client may see it.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("no template of the profile is for this request")]
    NoTemplate,
    #[error("the template '{name}' of this page is missing (is its package installed?)")]
    Missing { name: String },
    #[error("the template '{name}' of this page cannot be read")]
    Unreadable { name: String },
    #[error("the template '{name}' of this page takes too long to parse")]
    Slow { name: String },
    #[error("the template '{name}' of this page, {message}")]
    Unsupported { name: String, message: String },
    #[error("the template '{name}' of this page, {message}")]
    TooLong { name: String, message: String },
    #[error("the template '{name}' of this page uses {variables}, which the profile does not declare")]
    Undeclared { name: String, variables: String },
}

/// A page that nodegate rendered.
pub struct RenderedPage {
    pub response: Response<ResponseBody>,
    /// undeclared variables that the page lacks; if a worker is set, it renders the page instead
    pub gap: Option<PageError>,
}

impl PageSet {
    pub fn new(config: &Config) -> Result<Self, String> {
        let product = &config.product;
        let variables = ProfileVariables::new(&product.variable, &config.settings.node_name, &config.root)?;
        let mut templates: BTreeMap<&Path, Arc<TemplateFile>> = BTreeMap::new();
        let mut pages = Vec::new();
        for page in &product.page {
            let mut choices = Vec::new();
            for choice in &page.template {
                let mut names = choice.when.iter().map(TemplateCondition::variable);
                if let Some(name) = names.find(|name| !variables.is_declared(name)) {
                    return Err(format!("page {}: the variable '{name}' is not declared", page.url));
                }
                let template = templates
                    .entry(&choice.file)
                    .or_insert_with(|| Arc::new(TemplateFile::new(config.root.path(&choice.file))));
                let target = choice.target(&page.url, &product.variable);
                choices.push(ParsedChoice {
                    when: choice.when.clone(),
                    target,
                    template: Arc::clone(template),
                });
            }
            pages.push(ProfilePage { url: page.url.clone(), choices });
        }
        let worker = worker::PageWorker::new(config);
        Ok(Self { all: pages, variables, compression_enabled: config.settings.compression, worker })
    }

    /// The answer to a GET or HEAD for the page at `path`.
    pub async fn serve(
        &self,
        path: &str,
        head: &Parts,
        login: Option<&PageLogin>,
    ) -> Result<RenderedPage, PageError> {
        let cookies = joined(&head.headers, &COOKIE);
        let user_agent = joined(&head.headers, &USER_AGENT);
        let context = VariableContext {
            cookies: &cookies,
            query: head.uri.query().unwrap_or_default(),
            user_agent: &user_agent,
            login,
        };
        let template = self.choose_template(path, &context)?;
        let rendered = self.render(template, &context)?;
        let gap = self.find_gap(template, &rendered);
        let content_type = HeaderValue::from_static("text/html; charset=UTF-8");
        let response = self.response(Bytes::from(rendered.page), content_type, head, login).await;
        Ok(RenderedPage { response, gap })
    }

    fn choose_template(&self, path: &str, context: &VariableContext<'_>) -> Result<&TemplateFile, PageError> {
        let page = self.all.iter().find(|page| page.url == path).ok_or(PageError::NoTemplate)?;
        let holds = |condition: &TemplateCondition| self.variables.holds(condition, context);
        let choice = page.choices.iter().find(|choice| choice.when.iter().all(holds));
        choice.map(|choice| &*choice.template).ok_or(PageError::NoTemplate)
    }

    fn render(
        &self,
        template: &TemplateFile,
        context: &VariableContext<'_>,
    ) -> Result<RenderedTemplate, PageError> {
        let parsed = template.file.get().map_err(|error| {
            self.log_failure(template, &error);
            template.error(error)
        })?;
        self.render_template(&parsed.value, context).map_err(|error| {
            self.log_failure(template, &error);
            template.render_error(&error)
        })
    }

    fn render_template(
        &self,
        template: &Template,
        context: &VariableContext<'_>,
    ) -> Result<RenderedTemplate, RenderError> {
        let value = |name: &str| self.variables.value(name, context);
        template.render(&value, SystemTime::now())
    }

    /// Variables of the template that the profile does not declare. A newer product may set them.
    fn undeclared(&self, rendered: &RenderedTemplate) -> Option<String> {
        let names = rendered.missing.iter().filter(|name| !self.variables.is_declared(name));
        let names: Vec<_> = names.map(String::as_str).collect();
        if names.is_empty() { None } else { Some(names.join(", ")) }
    }

    /// Logs the gap of a rendered page.
    fn find_gap(&self, template: &TemplateFile, rendered: &RenderedTemplate) -> Option<PageError> {
        let gap = PageError::Undeclared { name: template.name(), variables: self.undeclared(rendered)? };
        if let Some(left_out) = template.log_line_due(&gap) {
            let worker = self.worker.address.as_deref();
            tracing::warn!(worker, "page rendered with a gap: {gap}{left_out}");
        }
        Some(gap)
    }

    fn log_failure(&self, template: &TemplateFile, cause: &dyn Display) {
        let Some(left_out) = template.log_line_due(cause) else { return };
        let file = template.file.path().display();
        if let Some(worker) = &self.worker.address {
            tracing::warn!(%file, %worker, "page not rendered, asking the worker: {cause}{left_out}");
        } else {
            tracing::error!(%file, "page not rendered: {cause}{left_out}");
        }
    }

    /// The page of a logged-in user is not compressed: it holds a CSRF token, and reflects parameters (BREACH, RFC 9113
    /// section 10.6).
    async fn response(
        &self,
        page: Bytes,
        content_type: HeaderValue,
        head: &Parts,
        login: Option<&PageLogin>,
    ) -> Response<ResponseBody> {
        let is_compressed = self.compression_enabled && login.is_none() && page.len() >= MIN_COMPRESSED_BYTES;
        let mut coding = if is_compressed { compression::negotiate_own(&head.headers) } else { None };
        let mut bytes = page;
        if let Some(wanted) = coding {
            match compression::compress(wanted, bytes.clone()).await {
                Ok(compressed) => bytes = compressed,
                Err(_) => coding = None,
            }
        }
        let length = HeaderValue::from(bytes.len());
        let is_head = head.method == Method::HEAD;
        let mut response = Response::new(if is_head { body::empty() } else { body::full(bytes) });
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        if let Some(coding) = coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
        }
        response
    }
}

impl TemplateFile {
    fn new(path: PathBuf) -> Self {
        Self { file: CachedFile::new(path, parse) }
    }

    /// Limits the log lines, because unauthenticated clients can request a broken page as often as they like.
    fn log_line_due(&self, cause: &dyn Display) -> Option<LeftOut> {
        log_limit::is_due(LogTopic::Page, &format!("{}: {cause}", self.file.path().display()))
    }

    /// The file's name without its directory.
    fn name(&self) -> String {
        self.file.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn render_error(&self, error: &RenderError) -> PageError {
        let (name, message) = (self.name(), error.to_string());
        match error {
            RenderError::TooLong { .. } | RenderError::TooMuchWork { .. } => {
                PageError::TooLong { name, message }
            }
            RenderError::Failed { .. } => PageError::Unsupported { name, message },
        }
    }

    fn error(&self, error: FileError) -> PageError {
        let name = self.name();
        match error {
            FileError::Malformed { message, .. } => {
                PageError::Unsupported { name, message: message.to_string() }
            }
            error if error.is_missing() => PageError::Missing { name },
            FileError::Unreadable { .. } | FileError::Silent { .. } => PageError::Unreadable { name },
            FileError::Slow { .. } => PageError::Slow { name },
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Template, String> {
    Template::parse(bytes).map_err(|error| error.to_string())
}
