//! The language of Template Toolkit, without directives that run Perl or read files. Pure.
//!
//! `tags` splits a template into text and tags, `lexer` splits a tag into tokens, `parser` builds statements, and
//! `interpreter` writes the page. A [`text::TaintedText`] knows which of its characters come from outside of the
//! template.

mod ast;
mod date;
mod filters;
mod format;
mod interpreter;
mod lexer;
mod lines;
mod methods;
mod number;
mod parser;
mod pattern;
mod quoted;
mod tags;
#[cfg(test)]
mod tests;
mod text;
mod value;

use std::collections::BTreeSet;
use std::time::SystemTime;

use self::ast::Program;
use self::interpreter::Interpreter;
use super::sanitized::SanitizedValue;

const MAX_TEMPLATE_BYTES: usize = 1 << 20;
const MAX_PAGE_BYTES: usize = 4 << 20;

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    program: Program,
}

/// A syntax error and its line. It names no file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TemplateError {
    pub line: usize,
    pub message: String,
}

impl TemplateError {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// The reason why a parsed template gives no page. It names no file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// the page exceeds its size limit
    #[error("line {line}: the page would be longer than {MAX_PAGE_BYTES} bytes")]
    TooLong {
        /// from 1
        line: usize,
    },
    /// the template exceeds its step limit
    #[error("line {line}: the page takes more work than is allowed; is there a loop without an end?")]
    TooMuchWork {
        /// from 1
        line: usize,
    },
    /// a statement failed
    #[error("line {line}: {message}")]
    Failed {
        /// from 1
        line: usize,
        /// the reason
        message: String,
    },
}

/// A page, and the variables that it lacks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RenderedTemplate {
    /// the rendered text
    pub page: String,
    /// variables that the template reads without a value, except those of `DEFAULT`
    pub missing: BTreeSet<String>,
}

/// The options of Template Toolkit. The products' pages use the defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct TemplateSyntax {
    /// plain text may contain variables: `$name`
    pub interpolate: bool,
    /// keywords may be in lower case
    pub any_case: bool,
    /// `$` before a name is ignored
    pub plain_dollar: bool,
    /// the default chomping before and behind a tag: `-`, `+`, `=` or `~`
    pub chomp: [Option<char>; 2],
}

impl Template {
    /// # Errors
    /// The template has a syntax error or an unsupported directive.
    pub fn parse(bytes: &[u8]) -> Result<Self, TemplateError> {
        Self::parse_with(bytes, TemplateSyntax::default())
    }

    /// The same with another syntax of tags.
    ///
    /// # Errors
    /// The template has a syntax error or an unsupported directive.
    pub fn parse_with(bytes: &[u8], syntax: TemplateSyntax) -> Result<Self, TemplateError> {
        let whole = |message: &str| TemplateError::new(1, message);
        if bytes.len() >= MAX_TEMPLATE_BYTES {
            return Err(whole("the template is larger than 1 MiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| whole("the template is not UTF-8"))?;
        Ok(Self { program: parser::parse(text, syntax)? })
    }

    /// Renders a page. A variable without a value is empty.
    pub fn render(
        &self,
        values: &dyn Fn(&str) -> Option<SanitizedValue>,
        now: SystemTime,
    ) -> Result<RenderedTemplate, RenderError> {
        Interpreter::new(&self.program, values, now).render()
    }
}
