//! The characters of a shell file, with continued lines joined and lines counted.

/// The rest of the file. A copy is a bookmark.
#[derive(Clone, Copy)]
pub(super) struct ShellReader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> ShellReader<'a> {
    pub(super) fn new(text: &'a str) -> ShellReader<'a> {
        ShellReader { rest: text, line: 1 }
    }

    /// The line of the next character; the first line is 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The next character, of any kind.
    pub(super) fn peek_raw(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// The next character of the logical line: a backslash with a newline is skipped.
    pub(super) fn peek(&mut self) -> Option<char> {
        while let Some(rest) = self.rest.strip_prefix("\\\n") {
            self.rest = rest;
            self.line += 1;
        }
        self.peek_raw()
    }

    /// Skips the next character.
    pub(super) fn bump(&mut self) {
        let mut characters = self.rest.chars();
        if characters.next() == Some('\n') {
            self.line += 1;
        }
        self.rest = characters.as_str();
    }

    pub(super) fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(character) = self.peek() {
            let digit = character.is_ascii_digit() && !name.is_empty();
            if !(character.is_ascii_alphabetic() || character == '_' || digit) {
                break;
            }
            name.push(character);
            self.bump();
        }
        name
    }

    /// Reads `=` (gives `false`) or `+=` (gives `true`: append).
    pub(super) fn assignment_operator(&mut self) -> Option<bool> {
        let mut ahead = *self;
        let append = ahead.peek() == Some('+');
        if append {
            ahead.bump();
        }
        if ahead.peek() != Some('=') {
            return None;
        }
        ahead.bump();
        *self = ahead;
        Some(append)
    }

    pub(super) fn at_word_end(&mut self) -> bool {
        matches!(self.peek(), None | Some(' ' | '\t' | '\n' | ';'))
    }

    /// A word as it is written, up to a blank or an operator.
    pub(super) fn bare_word(&mut self) -> String {
        let mut word = String::new();
        while !self.at_word_end() {
            match self.peek() {
                None | Some('&' | '|' | '<' | '>' | '(' | ')') => break,
                Some(character) => word.push(character),
            }
            self.bump();
        }
        word
    }

    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.bump();
        }
    }

    /// A backslash does not continue a comment.
    pub(super) fn skip_comment(&mut self) {
        self.rest = self.rest.find('\n').and_then(|end| self.rest.get(end..)).unwrap_or_default();
    }

    /// Skips the logical line.
    pub(super) fn skip_line(&mut self) {
        while let Some(character) = self.peek() {
            self.bump();
            match character {
                '\n' => return,
                '\\' => self.bump(),
                _ => {}
            }
        }
    }
}
