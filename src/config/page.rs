//! The pages of a profile: their templates, and where the variables in them come from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// A page rendered from a template.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PageRules {
    pub url: String,
    /// the first whose conditions hold is rendered
    pub template: Vec<TemplateChoice>,
}

/// A template file and its conditions.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TemplateChoice {
    pub file: PathBuf,
    #[serde(default)]
    pub when: Vec<TemplateCondition>,
}

impl TemplateChoice {
    /// The request that gets this template from the page at `url`: with the query that its conditions require. `None`
    /// if only another source meets them, such as a cookie.
    pub fn target(&self, url: &str, variables: &BTreeMap<String, VariableRules>) -> Option<String> {
        let parameter = |condition: &TemplateCondition| {
            let sources = &variables.get(condition.variable())?.from;
            sources.iter().find_map(|source| {
                if let VariableSource::Query(name) = source { Some(format!("{name}=1")) } else { None }
            })
        };
        let parameters: Option<Vec<_>> = self.when.iter().map(parameter).collect();
        let query = parameters?.join("&");
        Some(if query.is_empty() { url.to_owned() } else { format!("{url}?{query}") })
    }
}

/// The condition of a template about a variable.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum TemplateCondition {
    /// neither `0` nor empty
    IsTrue(String),
    IsDefined(DefinedVariable),
}

/// A variable for which a source has any value, even an empty or invalid one.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DefinedVariable {
    pub defined: String,
}

impl TemplateCondition {
    pub fn variable(&self) -> &str {
        match self {
            Self::IsTrue(name) | Self::IsDefined(DefinedVariable { defined: name }) => name,
        }
    }
}

/// A variable of the templates: its value is that of the first source with a matching one; otherwise it is empty.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct VariableRules {
    pub kind: VariableKind,
    /// the pattern of a whole value, besides the rule of its kind
    pub pattern: Option<String>,
    pub from: Vec<VariableSource>,
}

/// The values that a variable may hold. A profile may narrow them by a pattern, and cannot widen them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum VariableKind {
    /// `1` or `0`: any value but `0` and the empty one is true
    Flag,
    /// digits
    Number,
    /// letters, digits, `.`, `_`, `~`, `+`, `-`
    Word,
    /// a word with `/`, `:` and `=`: paths, CSRF tokens, base64
    Token,
    /// any text, as the inside of a JavaScript string: all but letters, digits, `@`, `.`, `_`, `-` becomes `\uXXXX`
    User,
    /// text that is percent- or base64-encoded already; other text gets percent-encoded
    Encoded,
}

/// Where a value comes from.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum VariableSource {
    /// the cookie of that name, percent-decoded
    Cookie(String),
    /// the value of the query parameter of that name, even an empty one; a parameter without `=` has no value
    Query(String),
    /// a fixed text if the query parameter has no `=`
    BareQuery {
        name: String,
        value: String,
    },
    /// `1` if the `User-Agent` header matches all patterns of one list and no pattern of the other
    UserAgent {
        all: Vec<String>,
        #[serde(default)]
        none: Vec<String>,
    },
    /// the match of the first group of a pattern in a text file; `^` and `$` are the ends of a line
    Match {
        file: PathBuf,
        pattern: String,
    },
    /// a line of a file of sections
    Section {
        file: PathBuf,
        section: String,
        key: String,
    },
    /// when a file or directory was last written, in seconds since 1970
    Modified(PathBuf),
    /// `1` if the file exists; `{name}` stands for a variable that is a word
    Exists(String),
    Text(String),
    /// the setting `node.name`
    NodeName,
    /// Debian's name for this machine's architecture
    Architecture,
    /// the user who is logged in
    User,
    /// a fresh CSRF token of the user who is logged in
    CsrfToken,
    /// `1` if nodegate runs with `--debug`
    Debug,
}
