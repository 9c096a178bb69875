//! The paths of a product's API: the prefix, and the formats of answers.

use std::collections::BTreeMap;
use std::ops::Range;

use super::error_format::ErrorFormat;
use super::target::segments_of;
use crate::config::product::{ApiRules, Product};

/// The checked form of `[product.api]`. The default has no API: every path is one of a page or a file.
#[derive(Clone, Debug, Default)]
pub struct ApiGrammar {
    prefix: String,
    formats: Formats,
}

#[derive(Clone, Debug)]
enum Formats {
    /// no path names its format
    One(ErrorFormat),
    Named {
        listed: BTreeMap<String, ErrorFormat>,
        others: Option<ErrorFormat>,
    },
}

impl Default for Formats {
    fn default() -> Self {
        Self::Named { listed: BTreeMap::new(), others: None }
    }
}

/// The kind of a decoded path.
pub(super) enum PathKind {
    /// the range of the format; the path of the call begins behind it
    Call(Range<usize>),
    /// below the prefix, or similar to it, but not a call
    NoCall,
    Other,
}

impl ApiGrammar {
    /// Reads the API of a product, and checks that the product uses only formats that the API has.
    ///
    /// # Errors
    ///
    /// Names the key that is missing or wrong.
    pub fn new(product: &Product) -> Result<Self, String> {
        let Some(rules) = &product.api else {
            return match &product.auth {
                Some(_) => {
                    Err("product.api is missing: write the prefix and the formats of the API".to_owned())
                }
                None => Ok(Self::default()),
            };
        };
        let grammar = Self { prefix: prefix(&rules.prefix)?, formats: formats(rules)? };
        let titles = product.page_title.iter().map(|title| ("page_title.format", &title.format));
        let uploads = product.upload.iter().flat_map(|upload| &upload.formats);
        for (key, format) in titles.chain(uploads.map(|format| ("upload.formats", format))) {
            if !grammar.has_format(format) {
                return Err(format!("product.{key}: '{format}' is not a format of product.api"));
            }
        }
        if product.upload.is_some() && grammar.json_target("").is_none() {
            return Err(
                "product.upload asks for permissions in JSON, which product.api does not have".to_owned()
            );
        }
        let login_page = product.auth.as_ref().and_then(|auth| auth.login_page.as_deref());
        match login_page.filter(|page| grammar.format_of_raw(page).is_none()) {
            Some(page) => Err(format!("product.auth.login_page: '{page}' is not a call of product.api")),
            None => Ok(grammar),
        }
    }

    /// Whether a path that is not decoded yet lies in the API.
    pub fn is_in_api(&self, path: &str) -> bool {
        self.behind_prefix(path).is_some()
    }

    /// The format in a path that is not decoded yet; empty if paths have no format.
    pub fn format_of_raw<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = self.behind_prefix(path)?;
        match &self.formats {
            Formats::One(_) => Some(""),
            Formats::Named { .. } => rest.split('/').next(),
        }
    }

    /// The format of errors, by the raw path, because a path that cannot be decoded has one too.
    pub fn error_format(&self, path: &str) -> ErrorFormat {
        match (self.format_of_raw(path), &self.formats) {
            (Some(_), Formats::One(format)) => *format,
            (Some(name), Formats::Named { listed, others }) => {
                listed.get(name).copied().or(*others).unwrap_or(ErrorFormat::Text)
            }
            (None, _) => ErrorFormat::Text,
        }
    }

    /// The target of a call that is answered in JSON; `path` begins with `/`. `None` if the API has no JSON.
    pub fn json_target(&self, path: &str) -> Option<String> {
        match &self.formats {
            Formats::One(ErrorFormat::Json) => Some(format!("{}{path}", self.prefix)),
            Formats::One(ErrorFormat::Text | ErrorFormat::StatusInBody) => None,
            Formats::Named { listed, .. } => {
                let (name, _) = listed.iter().find(|(_, format)| **format == ErrorFormat::Json)?;
                Some(format!("{}/{name}{path}", self.prefix))
            }
        }
    }

    /// `/PREFIX/FORMAT/PATH`, for messages.
    pub fn outline(&self) -> String {
        match self.formats {
            Formats::One(_) => format!("{}/PATH", self.prefix),
            Formats::Named { .. } => format!("{}/FORMAT/PATH", self.prefix),
        }
    }

    /// Finds the prefix and the format in a decoded path. A path that only begins like the prefix is not a file either.
    pub(super) fn classify(&self, decoded: &str) -> PathKind {
        if self.prefix.is_empty() {
            return PathKind::Other;
        }
        let mut segments = segments_of(decoded);
        let mut last = "";
        for expected in segments_of(&self.prefix) {
            match segments.next() {
                Some(segment) if segment == expected => last = segment,
                Some(_) | None if decoded.starts_with(&self.prefix) => return PathKind::NoCall,
                Some(_) | None => return PathKind::Other,
            }
        }
        let start_of = |part: &str| part.as_ptr().addr().saturating_sub(decoded.as_ptr().addr());
        if let Formats::One(_) = self.formats {
            let end = start_of(last) + last.len();
            return PathKind::Call(end..end);
        }
        match segments.next().filter(|format| self.has_format(format)) {
            Some(format) => PathKind::Call(start_of(format)..start_of(format) + format.len()),
            None => PathKind::NoCall,
        }
    }

    fn behind_prefix<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.prefix.is_empty() {
            return None;
        }
        path.strip_prefix(&self.prefix)?.strip_prefix('/')
    }

    fn has_format(&self, name: &str) -> bool {
        match &self.formats {
            Formats::One(_) => name.is_empty(),
            Formats::Named { listed, others } => {
                is_format(name) && (others.is_some() || listed.contains_key(name))
            }
        }
    }
}

/// Accepts plain segments only: the prefix is compared after decoding, and sent on unchanged.
fn prefix(text: &str) -> Result<String, String> {
    let is_plain = |segment: &str| {
        segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && !matches!(segment, "" | "." | "..")
    };
    match text.strip_prefix('/') {
        Some(rest) if rest.split('/').all(is_plain) => Ok(text.to_owned()),
        Some(_) | None => Err(format!(
            "product.api.prefix: '{text}' is not a path such as /rest/v1, of letters, digits, '-', '_' and '.'"
        )),
    }
}

fn formats(rules: &ApiRules) -> Result<Formats, String> {
    match (rules.format, rules.formats.is_empty(), rules.other_formats) {
        (Some(format), true, None) => Ok(Formats::One(format)),
        (None, false, others) => match rules.formats.keys().find(|name| !is_format(name)) {
            Some(name) => Err(format!(
                "product.api.formats: '{name}' is not a name of a format: write two or more of a-z and 0-9"
            )),
            None => Ok(Formats::Named { listed: rules.formats.clone(), others }),
        },
        (None, true, _) => Err("product.api: write format, or formats".to_owned()),
        (Some(_), _, _) => {
            Err("product.api: format stands for an API without formats and other_formats".to_owned())
        }
    }
}

fn is_format(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
pub mod tests;
