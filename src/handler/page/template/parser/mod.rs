//! Parses tokens into statements and expressions. Pure.

mod arguments;
mod blocks;
mod expression;
mod statement;
mod term;

use std::iter::Peekable;
use std::sync::Arc;
use std::vec;

use super::ast::{Body, Expression, Program};
use super::lexer::{Lexeme, QuotedPart, Token, tokens};
use super::quoted::interpolated;
use super::tags::{TemplatePiece, pieces};
use super::text::TaintedText;
use super::{TemplateError, TemplateSyntax};

/// Nested blocks and brackets.
const MAX_DEPTH: usize = 32;

/// Parses a whole template.
pub(super) fn parse(text: &str, syntax: TemplateSyntax) -> Result<Program, TemplateError> {
    let mut lexemes = Vec::new();
    for piece in pieces(text, syntax.chomp) {
        match piece {
            TemplatePiece::Text { line, text } if syntax.interpolate => {
                for part in interpolated(&text, line, syntax)? {
                    match part {
                        QuotedPart::Text(text) => lexemes.push(Lexeme { line: 0, token: Token::Text(text) }),
                        QuotedPart::Variable(variable) => push_directive(variable, line, &mut lexemes),
                    }
                }
            }
            TemplatePiece::Text { text, .. } => lexemes.push(Lexeme { line: 0, token: Token::Text(text) }),
            TemplatePiece::Directive { line, inside } => {
                push_directive(tokens(inside, line, syntax)?, line, &mut lexemes);
            }
        }
    }
    let mut parser = Parser::new(lexemes, syntax);
    let body = parser.body()?;
    if parser.lexemes.peek().is_some() {
        return Err(parser.unexpected());
    }
    let mut program = parser.program;
    program.body = body;
    program.check_names()?;
    Ok(program)
}

/// Ends each tag with a `;`.
fn push_directive(directive: Vec<Lexeme>, line: usize, lexemes: &mut Vec<Lexeme>) {
    let line = directive.last().map_or(line, |last| last.line);
    lexemes.extend(directive);
    lexemes.push(Lexeme { line, token: Token::Keyword(";") });
}

struct Parser {
    syntax: TemplateSyntax,
    lexemes: Peekable<vec::IntoIter<Lexeme>>,
    line: usize,
    depth: usize,
    /// loops that `NEXT` and `LAST` may leave
    loops: usize,
    /// names of the enclosing blocks
    block_names: Vec<String>,
    program: Program,
}

impl Parser {
    fn new(lexemes: Vec<Lexeme>, syntax: TemplateSyntax) -> Self {
        Self {
            syntax,
            lexemes: lexemes.into_iter().peekable(),
            line: 1,
            depth: 0,
            loops: 0,
            block_names: Vec::new(),
            program: Program::default(),
        }
    }

    fn with_depth<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, TemplateError>,
    ) -> Result<T, TemplateError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(format!("more than {MAX_DEPTH} blocks or brackets within one another")));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Parses statements up to the end of the template or the keyword that ends the block, which the caller takes.
    fn body(&mut self) -> Result<Body, TemplateError> {
        let mut body = Body::new();
        loop {
            // Every tag ends with its own `;`, so empty statements are allowed.
            if self.takes(";") {
                continue;
            }
            let ends = ["END", "ELSE", "ELSIF", "CASE", "CATCH", "FINAL"];
            if self.lexemes.peek().is_none() || ends.iter().any(|word| self.is_next(word)) {
                return Ok(body);
            }
            if let Some(statement) = self.statement()? {
                body.push(statement);
            }
        }
    }

    fn next(&mut self) -> Option<Token> {
        let lexeme = self.lexemes.next()?;
        if lexeme.line > 0 {
            self.line = lexeme.line;
        }
        Some(lexeme.token)
    }

    fn next_if(&mut self, fits: impl FnOnce(&Token) -> bool) -> Option<Token> {
        if fits(&self.lexemes.peek()?.token) { self.next() } else { None }
    }

    fn is_next(&mut self, keyword: &str) -> bool {
        matches!(self.lexemes.peek(), Some(Lexeme { token: Token::Keyword(next), .. }) if *next == keyword)
    }

    fn takes(&mut self, keyword: &str) -> bool {
        self.is_next(keyword) && self.next().is_some()
    }

    fn expect(&mut self, keyword: &str) -> Result<(), TemplateError> {
        if self.takes(keyword) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn takes_name(&mut self) -> Option<String> {
        let token = self.next_if(|token| matches!(token, Token::Name(_)))?;
        if let Token::Name(name) = token { Some(name) } else { None }
    }

    fn unexpected(&mut self) -> TemplateError {
        match self.lexemes.peek() {
            None => self.error("END is missing"),
            Some(Lexeme { token: Token::Text(_) | Token::Keyword(";"), .. }) => {
                self.error("the directive ends early")
            }
            Some(Lexeme { line, token }) => {
                TemplateError::new(*line, format!("{token} is not supported here"))
            }
        }
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::new(self.line, message)
    }
}

fn literal(text: &str) -> Expression {
    Expression::Literal(Arc::new(TaintedText::literal(text)))
}
