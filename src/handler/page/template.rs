//! The products' page templates: the part of Template-Toolkit that such pages use. Pure.
//!
//! `[% name %]`, strings, `IF`/`UNLESS`/`ELSIF`/`ELSE`/`END` before and behind, `==`, `!=`, `&&`, `||`, `!`, `_`,
//! `? :`, brackets, the filters `html`, `html_entity` and `uri`, comments, and the chomping flags `-`, `+`, `=`, `~`.
//! All else is an error with its line. Operators bind as in Perl, which Template-Toolkit turns them into: `!`, `_`,
//! `==`, `&&`, `||`, `? :`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::inert::{Inert, is_true};
use super::parser;

/// Bytes of a template.
const LARGEST: usize = 1 << 20;
/// Bytes of a rendered page.
const LONGEST_PAGE: usize = 4 << 20;

/// A parsed page.
#[derive(Debug)]
pub struct Template {
    nodes: Vec<Node>,
    names: BTreeSet<String>,
}

/// What cannot be rendered, and where. Names no file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TemplateError {
    pub line: usize,
    pub message: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the page would be longer than {LONGEST_PAGE} bytes")]
pub struct TooLong;

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Output(Expression),
    If { branches: Vec<(Expression, Vec<Node>)>, otherwise: Vec<Node> },
    Filter(Filter, Vec<Node>),
}

#[derive(Debug)]
pub(super) enum Expression {
    Literal(String),
    Variable(String),
    Not(Box<Expression>),
    /// operators of one rank, from left to right
    Chain(Box<Expression>, Vec<(Operator, Expression)>),
    Choice(Box<[Expression; 3]>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Operator {
    And,
    Or,
    Join,
    Equal,
    Unequal,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Filter {
    Html,
    Uri,
}

impl Template {
    pub fn parse(bytes: &[u8]) -> Result<Self, TemplateError> {
        let whole = |message: &str| TemplateError { line: 1, message: message.to_owned() };
        if bytes.len() >= LARGEST {
            return Err(whole("the template is larger than 1 MiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| whole("the template is not UTF-8"))?;
        let (nodes, names) = parser::parse(text)?;
        Ok(Self { nodes, names })
    }

    /// Every variable that the template mentions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The page. A variable without value is empty.
    pub fn render(&self, values: &BTreeMap<String, Inert>) -> Result<String, TooLong> {
        let mut page = String::new();
        write(&self.nodes, values, &mut page)?;
        Ok(page)
    }
}

fn write(nodes: &[Node], values: &BTreeMap<String, Inert>, page: &mut String) -> Result<(), TooLong> {
    for node in nodes {
        match node {
            Node::Text(text) => page.push_str(text),
            Node::Output(expression) => page.push_str(&expression.value(values)),
            Node::If { branches, otherwise } => {
                let taken = branches.iter().find(|(condition, _)| is_true(&condition.value(values)));
                write(taken.map_or(otherwise, |(_, nodes)| nodes), values, page)?;
            }
            Node::Filter(filter, nodes) => {
                let mut inner = String::new();
                write(nodes, values, &mut inner)?;
                page.push_str(&filter.apply(&inner));
            }
        }
        if page.len() > LONGEST_PAGE {
            return Err(TooLong);
        }
    }
    Ok(())
}

impl Expression {
    fn value<'a>(&'a self, values: &'a BTreeMap<String, Inert>) -> Cow<'a, str> {
        match self {
            Self::Literal(text) => Cow::Borrowed(text),
            Self::Variable(name) => Cow::Borrowed(values.get(name).map_or("", Inert::as_str)),
            Self::Not(inner) => truth(!is_true(&inner.value(values))),
            Self::Chain(first, rest) => {
                rest.iter().fold(first.value(values), |left, (operator, right)| {
                    match (operator, is_true(&left)) {
                        (Operator::And, false) | (Operator::Or, true) => left,
                        (Operator::And | Operator::Or, _) => right.value(values),
                        (Operator::Join, _) => left + right.value(values),
                        (Operator::Equal, _) => truth(left == right.value(values)),
                        (Operator::Unequal, _) => truth(left != right.value(values)),
                    }
                })
            }
            Self::Choice(parts) => {
                let [condition, yes, no] = parts.as_ref();
                if is_true(&condition.value(values)) { yes.value(values) } else { no.value(values) }
            }
        }
    }
}

fn truth(is_true: bool) -> Cow<'static, str> {
    Cow::Borrowed(if is_true { "1" } else { "" })
}

impl Filter {
    fn apply(self, text: &str) -> String {
        match self {
            Self::Html => text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
                .replace('\'', "&#39;"),
            Self::Uri => percent_encoding::utf8_percent_encode(text, RESERVED_IN_URI).to_string(),
        }
    }
}

/// All but the unreserved characters of RFC 3986.
const RESERVED_IN_URI: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
