//! Splits the inside of a tag into tokens. Pure.

use std::fmt;

use super::number::is_space;
use super::quoted::{interpolated, unescape_double, unescape_single};
use super::{TemplateError, TemplateSyntax};

/// A token and its line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lexeme {
    pub(super) line: usize,
    pub(super) token: Token,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// text outside of tags
    Text(String),
    Name(String),
    /// a keyword or symbol; synonyms become one keyword
    Keyword(&'static str),
    /// text in single quotes, or in double quotes without variables
    Literal(String),
    /// text in double quotes with variables
    Quoted(Vec<QuotedPart>),
    Number(String),
    /// words joined by `/` or `::`
    FileName(String),
    /// anything else
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum QuotedPart {
    Text(String),
    Variable(Vec<Lexeme>),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shortened = |text: &str| text.chars().take(32).collect::<String>().escape_debug().to_string();
        match self {
            Self::Name(text) | Self::FileName(text) | Self::Number(text) | Self::Unknown(text) => {
                write!(f, "'{}'", shortened(text))
            }
            Self::Keyword(word) => write!(f, "'{word}'"),
            Self::Literal(_) | Self::Quoted(_) | Self::Text(_) => f.write_str("a text"),
        }
    }
}

/// Keywords, and the keyword that each means.
const WORDS: &[(&str, &str)] = &[
    ("FOREACH", "FOR"),
    ("BREAK", "LAST"),
    ("and", "AND"),
    ("or", "OR"),
    ("not", "NOT"),
    ("div", "DIV"),
    ("mod", "MOD"),
    ("_", "_"),
];
const RESERVED: &[&str] = &[
    "GET", "CALL", "SET", "DEFAULT", "INSERT", "INCLUDE", "PROCESS", "WRAPPER", "BLOCK", "END", "USE",
    "PLUGIN", "FILTER", "MACRO", "PERL", "RAWPERL", "TO", "STEP", "AND", "OR", "NOT", "DIV", "MOD", "IF",
    "UNLESS", "ELSE", "ELSIF", "FOR", "NEXT", "WHILE", "SWITCH", "CASE", "META", "IN", "TRY", "THROW",
    "CATCH", "FINAL", "LAST", "RETURN", "STOP", "CLEAR", "VIEW", "DEBUG",
];
/// Symbols. The first match counts, so longer ones come first.
const SYMBOLS: &[&str] = &[
    "${", "=>", "==", "!=", "<=", ">=", "&&", "||", "..", "(", ")", "{", "}", "[", "]", ":", ";", ",", "/",
    "\\", "+", "-", "*", "$", "=", "!", "<", ">", "|", ".",
];
/// Symbols that need white space, or the end, behind them.
const SPACED_SYMBOLS: [&str; 2] = ["?", "%"];

/// Splits a tag into tokens.
pub(super) fn tokens(text: &str, line: usize, syntax: TemplateSyntax) -> Result<Vec<Lexeme>, TemplateError> {
    let mut lexer = Lexer { rest: text, line, syntax, is_member: false };
    let mut lexemes = Vec::new();
    loop {
        lexer.skip_blanks();
        let line = lexer.line;
        match lexer.token()? {
            Some(token) => {
                lexer.is_member = token == Token::Keyword(".");
                lexemes.push(Lexeme { line, token });
            }
            None => return Ok(lexemes),
        }
    }
}

struct Lexer<'t> {
    rest: &'t str,
    line: usize,
    syntax: TemplateSyntax,
    /// a dot precedes, so the next word is no keyword in lower case
    is_member: bool,
}

pub(super) fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

impl<'t> Lexer<'t> {
    /// Skips white space, and comments up to the end of their line.
    fn skip_blanks(&mut self) {
        loop {
            let trimmed = self.rest.trim_start_matches(is_space);
            self.take(self.rest.len() - trimmed.len());
            if !trimmed.starts_with('#') {
                return;
            }
            self.take(trimmed.find('\n').unwrap_or(trimmed.len()));
        }
    }

    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn token(&mut self) -> Result<Option<Token>, TemplateError> {
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        if first == '\'' || first == '"' {
            return self.quoted(first).map(Some);
        }
        if let Some(length) = number_length(self.rest) {
            return Ok(Some(Token::Number(self.take(length).to_owned())));
        }
        if let Some(length) = file_name_length(self.rest) {
            return Ok(Some(Token::FileName(self.take(length).to_owned())));
        }
        if is_word(first) {
            let length = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
            let text = self.take(length);
            let is_assigned = self.rest.trim_start_matches(is_space).starts_with('=');
            if self.syntax.any_case && !self.is_member && !is_assigned {
                return Ok(Some(word(&text.to_ascii_uppercase()).unless_name(text)));
            }
            return Ok(Some(word(text)));
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| self.rest.starts_with(**symbol)) {
            self.take(symbol.len());
            return Ok(Some(Token::Keyword(meaning(symbol))));
        }
        let unquoted = self.take(self.rest.find(is_space).unwrap_or(self.rest.len()));
        let symbol = SPACED_SYMBOLS.iter().find(|symbol| **symbol == unquoted);
        Ok(Some(symbol.map_or_else(|| Token::Unknown(unquoted.to_owned()), |symbol| Token::Keyword(symbol))))
    }

    fn quoted(&mut self, quote: char) -> Result<Token, TemplateError> {
        let line = self.line;
        let mut characters = self.rest.char_indices().skip(1);
        let end = loop {
            match characters.next() {
                Some((at, character)) if character == quote => break at,
                Some((_, '\\')) => {
                    if characters.clone().next().is_some_and(|(_, next)| next == '\\' || next == quote) {
                        characters.next();
                    }
                }
                Some(_) => (),
                None => return Err(TemplateError::new(line, "a quote is not closed")),
            }
        };
        let inside = self.take(end + 1).get(1..end).unwrap_or_default();
        if quote == '\'' {
            return Ok(Token::Literal(unescape_single(inside)));
        }
        if !inside.contains(['$', '\\']) {
            return Ok(Token::Literal(inside.to_owned()));
        }
        Ok(Token::Quoted(interpolated(&unescape_double(inside), line, self.syntax)?))
    }
}

impl Token {
    /// A word in its own spelling, if it is no keyword.
    fn unless_name(self, written: &str) -> Self {
        if matches!(self, Self::Name(_)) { Self::Name(written.to_owned()) } else { self }
    }
}

/// The keyword that a symbol means.
fn meaning(symbol: &'static str) -> &'static str {
    match symbol {
        "=>" => "=",
        "&&" => "AND",
        "||" => "OR",
        ".." => "TO",
        "!" => "NOT",
        "|" => "FILTER",
        own => own,
    }
}

fn word(text: &str) -> Token {
    let meaning = WORDS.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
    let keyword = meaning.or_else(|| RESERVED.iter().find(|word| **word == text).copied());
    keyword.map_or_else(|| Token::Name(text.to_owned()), Token::Keyword)
}

/// The length of `-?DIGITS`, optionally with `.DIGITS`.
fn number_length(text: &str) -> Option<usize> {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len()
    };
    let sign = usize::from(text.starts_with('-'));
    let whole = digits(sign);
    if whole == 0 {
        return None;
    }
    let end = sign + whole;
    let fraction = if text.get(end..)?.starts_with('.') { digits(end + 1) } else { 0 };
    Some(if fraction > 0 { end + 1 + fraction } else { end })
}

/// The length of words joined by `/`, `:` or `::`, or of a `/` before a word.
fn file_name_length(text: &str) -> Option<usize> {
    let words = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.len() - rest.trim_start_matches(is_word).len()
    };
    let root = usize::from(text.starts_with('/'));
    let first = words(root);
    if first == 0 {
        return None;
    }
    let mut end = root + first;
    let mut joints = 0;
    loop {
        let rest = text.get(end..)?;
        let joint = if rest.starts_with("::") { 2 } else { usize::from(rest.starts_with(['/', ':'])) };
        if joint == 0 {
            return (joints > 0 || root > 0).then_some(end);
        }
        joints += 1;
        end += joint + words(end + joint);
    }
}
