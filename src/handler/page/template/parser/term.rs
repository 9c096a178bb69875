//! Values without operators: texts, numbers, lists, hashes and names.

use super::{Parser, literal};
use crate::handler::page::template::TemplateError;
use crate::handler::page::template::ast::{Element, Expression, Path};
use crate::handler::page::template::lexer::{Lexeme, QuotedPart, Token};
use crate::handler::page::template::number::Number;

impl Parser {
    /// A value without operators.
    pub(super) fn term(&mut self) -> Result<Expression, TemplateError> {
        if self.takes("[") {
            return self.with_depth(Self::list);
        }
        if self.takes("{") {
            return self.with_depth(Self::hash);
        }
        self.simple_term()
    }

    /// A value that is neither list nor hash.
    fn simple_term(&mut self) -> Result<Expression, TemplateError> {
        let simple =
            self.next_if(|token| matches!(token, Token::Literal(_) | Token::Quoted(_) | Token::Number(_)));
        match simple {
            Some(Token::Literal(text)) => Ok(literal(&text)),
            Some(Token::Quoted(parts)) => self.quoted(parts),
            Some(Token::Number(digits)) => Ok(Expression::Number(self.number(&digits)?)),
            Some(_) | None => Ok(Expression::Variable(self.path()?)),
        }
    }

    /// Rejects octal numbers: a 0 before other digits.
    fn number(&self, digits: &str) -> Result<Number, TemplateError> {
        let bare = digits.trim_start_matches('-');
        let is_octal = bare.len() > 1 && bare.starts_with('0') && !bare.starts_with("0.");
        if is_octal {
            return Err(self.error("a number that begins with 0 is not supported"));
        }
        Ok(Number::from_text(digits))
    }

    pub(super) fn quoted(&mut self, parts: Vec<QuotedPart>) -> Result<Expression, TemplateError> {
        let mut expressions = Vec::new();
        for part in parts {
            match part {
                QuotedPart::Text(text) => expressions.push(literal(&text)),
                QuotedPart::Variable(lexemes) => {
                    self.with_depth(|parser| parser.within(lexemes, &mut expressions))?;
                }
            }
        }
        Ok(Expression::Quoted(expressions))
    }

    /// Parses the variables in a quoted text with a nested parser.
    fn within(
        &mut self,
        lexemes: Vec<Lexeme>,
        expressions: &mut Vec<Expression>,
    ) -> Result<(), TemplateError> {
        let mut inner = Self::new(lexemes, self.syntax);
        (inner.line, inner.depth) = (self.line, self.depth);
        while inner.lexemes.peek().is_some() {
            expressions.push(Expression::Variable(inner.path()?));
        }
        Ok(())
    }

    /// Parses a list after `[`.
    fn list(&mut self) -> Result<Expression, TemplateError> {
        let mut items = Vec::new();
        loop {
            while self.takes(",") {}
            if self.takes("]") {
                return Ok(Expression::List(items));
            }
            let item = self.term()?;
            if items.is_empty() && self.takes("TO") {
                let end = self.simple_term()?;
                self.expect("]")?;
                return Ok(Expression::Range(Box::new([item, end])));
            }
            items.push(item);
        }
    }

    /// Parses a hash after `{`.
    fn hash(&mut self) -> Result<Expression, TemplateError> {
        let mut pairs = Vec::new();
        loop {
            while self.takes(",") {}
            if self.takes("}") {
                return Ok(Expression::Hash(pairs));
            }
            let key = match self.next_if(|token| matches!(token, Token::Literal(_))) {
                Some(Token::Literal(text)) => literal(&text),
                Some(_) | None => self.item()?,
            };
            self.expect("=")?;
            pairs.push((key, self.expression()?));
        }
    }

    /// `a.b(c).d`
    pub(super) fn path(&mut self) -> Result<Path, TemplateError> {
        let mut path = vec![self.element()?];
        while self.takes(".") {
            match self.next_if(|token| matches!(token, Token::Number(_))) {
                Some(Token::Number(digits)) => {
                    let numbers = digits.split('.').map(literal);
                    path.extend(numbers.map(|name| Element { name, arguments: None }));
                }
                Some(_) | None => path.push(self.element()?),
            }
        }
        Ok(path)
    }

    fn element(&mut self) -> Result<Element, TemplateError> {
        let name = self.item()?;
        Ok(Element { name, arguments: self.bracketed_arguments()? })
    }

    /// A name, `${ … }`, or `$name`.
    pub(super) fn item(&mut self) -> Result<Expression, TemplateError> {
        if let Some(name) = self.takes_name() {
            return Ok(literal(&name));
        }
        if self.takes("${") {
            return self.with_depth(|parser| {
                let name = parser.simple_term()?;
                parser.expect("}")?;
                Ok(name)
            });
        }
        if self.takes("$") {
            let name = self.takes_name().ok_or_else(|| self.unexpected())?;
            if self.syntax.plain_dollar {
                return Ok(literal(&name));
            }
            return Ok(Expression::Variable(vec![Element { name: literal(&name), arguments: None }]));
        }
        Err(self.unexpected())
    }
}
