//! A template's text cut into plain text and the words of its `[% … %]` tags. Pure.

use std::fmt;

use super::template::TemplateError;

/// A piece of a template.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Item {
    /// what stands outside of tags, chomped
    Text(String),
    /// a word of a tag and its line; each tag ends with `;`
    Token(usize, Token),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Token {
    /// a name or a keyword
    Word(String),
    /// a quoted text or a number
    Text(String),
    Symbol(&'static str),
    /// a character that this reader knows nothing of
    Other(char),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) => write!(f, "'{}'", text.chars().take(32).collect::<String>()),
            Self::Text(_) => f.write_str("a text"),
            Self::Symbol(symbol) => write!(f, "'{symbol}'"),
            Self::Other(character) => write!(f, "'{}'", character.escape_default()),
        }
    }
}

/// What a tag does to the white space beside it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Chomp {
    Nothing,
    /// blanks and one line end
    Line,
    /// all of it becomes one space
    Collapse,
    /// all of it
    Greedy,
}

impl Chomp {
    fn of(flag: char) -> Option<Self> {
        match flag {
            '+' => Some(Self::Nothing),
            '-' => Some(Self::Line),
            '=' => Some(Self::Collapse),
            '~' => Some(Self::Greedy),
            _ => None,
        }
    }
}

/// The inside of a tag without its flags.
struct Tag<'t> {
    before: Chomp,
    words: &'t str,
    after: Chomp,
}

const SYMBOLS: [&str; 11] = ["||", "&&", "==", "!=", "|", "!", "(", ")", ";", "?", ":"];

/// Cuts a whole template.
pub(super) fn items(text: &str) -> Result<Vec<Item>, TemplateError> {
    let mut items = Vec::new();
    let mut rest = text;
    let mut line = 1;
    let mut chomp = Chomp::Nothing;
    while let Some((plain, behind)) = rest.split_once("[%") {
        line += lines(plain);
        let Some((inside, after)) = behind.split_once("%]") else {
            return Err(TemplateError { line, message: "'%]' is missing".to_owned() });
        };
        let tag = Tag::read(inside);
        push_text(&mut items, &chomp_end(&chomp_start(plain, chomp), tag.before));
        let mut reader = Reader { rest: tag.words, line };
        while let Some(token) = reader.token()? {
            items.push(Item::Token(reader.line, token));
        }
        items.push(Item::Token(reader.line, Token::Symbol(";")));
        line += lines(inside);
        chomp = tag.after;
        rest = after;
    }
    push_text(&mut items, &chomp_start(rest, chomp));
    Ok(items)
}

fn push_text(items: &mut Vec<Item>, text: &str) {
    if !text.is_empty() {
        items.push(Item::Text(text.to_owned()));
    }
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

impl<'t> Tag<'t> {
    /// `[%# … %]` is a comment as a whole, but its last flag counts.
    fn read(inside: &'t str) -> Self {
        let is_comment = inside.starts_with('#');
        let (before, inside) = match inside.chars().next().and_then(Chomp::of) {
            Some(chomp) => (chomp, inside.get(1..).unwrap_or_default()),
            None => (Chomp::Nothing, inside),
        };
        let inside = inside.trim_end();
        let (words, after) = match inside.chars().next_back().and_then(Chomp::of) {
            Some(chomp) => (inside.get(..inside.len() - 1).unwrap_or_default(), chomp),
            None => (inside, Chomp::Nothing),
        };
        Self { before, words: if is_comment { "" } else { words }, after }
    }
}

fn is_blank(character: char) -> bool {
    character.is_whitespace() && character != '\n'
}

/// The text behind a tag.
fn chomp_start(text: &str, chomp: Chomp) -> String {
    let trimmed = text.trim_start();
    match chomp {
        Chomp::Nothing => text.to_owned(),
        Chomp::Line => text.trim_start_matches(is_blank).strip_prefix('\n').unwrap_or(text).to_owned(),
        Chomp::Collapse if trimmed.len() < text.len() => format!(" {trimmed}"),
        Chomp::Collapse | Chomp::Greedy => trimmed.to_owned(),
    }
}

/// The text before a tag.
fn chomp_end(text: &str, chomp: Chomp) -> String {
    let trimmed = text.trim_end();
    match chomp {
        Chomp::Nothing => text.to_owned(),
        Chomp::Line => {
            let line = text.trim_end_matches(is_blank);
            match line.strip_suffix('\n') {
                Some(kept) => kept.strip_suffix('\r').unwrap_or(kept),
                None if line.is_empty() => "",
                None => text,
            }
            .to_owned()
        }
        Chomp::Collapse if trimmed.len() < text.len() => format!("{trimmed} "),
        Chomp::Collapse | Chomp::Greedy => trimmed.to_owned(),
    }
}

/// Reads the words of one tag.
struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

impl Reader<'_> {
    fn token(&mut self) -> Result<Option<Token>, TemplateError> {
        self.skip_blanks();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        if first == '\'' || first == '"' {
            return self.quoted(first).map(Some);
        }
        if first.is_ascii_digit() {
            let digits = self.take(|c| c.is_ascii_digit());
            // Perl would read it as octal
            if digits.len() > 1 && first == '0' {
                let message = "a number that begins with 0 is not supported".to_owned();
                return Err(TemplateError { line: self.line, message });
            }
            return Ok(Some(Token::Text(digits)));
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(Some(Token::Word(self.take(|c| c.is_ascii_alphanumeric() || c == '_'))));
        }
        for symbol in SYMBOLS {
            if let Some(rest) = self.rest.strip_prefix(symbol) {
                self.rest = rest;
                return Ok(Some(Token::Symbol(symbol)));
            }
        }
        self.rest = self.rest.strip_prefix(first).unwrap_or_default();
        Ok(Some(Token::Other(first)))
    }

    /// White space, and comments up to their line's end.
    fn skip_blanks(&mut self) {
        loop {
            let trimmed = self.rest.trim_start();
            self.line += lines(self.rest) - lines(trimmed);
            self.rest = trimmed;
            if !trimmed.starts_with('#') {
                return;
            }
            self.rest = trimmed.find('\n').and_then(|end| trimmed.get(end..)).unwrap_or_default();
        }
    }

    fn take(&mut self, belongs: fn(char) -> bool) -> String {
        let trimmed = self.rest.trim_start_matches(belongs);
        let taken = self.rest.strip_suffix(trimmed).unwrap_or_default().to_owned();
        self.rest = trimmed;
        taken
    }

    /// In `'…'` only `\'` and `\\` are escapes; `"…"` has `\n` and `\t` as well, and variables in it are not supported.
    fn quoted(&mut self, quote: char) -> Result<Token, TemplateError> {
        let error = |line, message: &str| Err(TemplateError { line, message: message.to_owned() });
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                _ if character == quote => {
                    self.rest = self.rest.get(at + character.len_utf8()..).unwrap_or_default();
                    self.line += lines(&text);
                    return Ok(Token::Text(text));
                }
                '$' if quote == '"' => {
                    return error(self.line, "a variable inside of a text is not supported");
                }
                '\\' => match characters.next() {
                    Some((_, 'n')) if quote == '"' => text.push('\n'),
                    Some((_, 't')) if quote == '"' => text.push('\t'),
                    Some((_, escaped)) if escaped == quote => text.push(escaped),
                    Some((_, '\\')) if quote == '\'' => text.push('\\'),
                    Some((_, other)) if quote == '\'' => text.extend(['\\', other]),
                    Some(_) => return error(self.line, "this escape in a text is not supported"),
                    None => (),
                },
                _ => text.push(character),
            }
        }
        error(self.line, "a quote is not closed")
    }
}
