//! Arguments, and the names of blocks and filters, which need no quotes.

use super::{Parser, literal};
use crate::handler::page::template::TemplateError;
use crate::handler::page::template::ast::{Arguments, Assignment, Expression, NameWithArguments};
use crate::handler::page::template::lexer::{Lexeme, Token};

impl Parser {
    /// Parses all arguments, with or without commas.
    pub(super) fn arguments(&mut self) -> Result<Arguments, TemplateError> {
        let mut arguments = Arguments::default();
        loop {
            while self.takes(",") {}
            if !self.begins_expression() {
                return Ok(arguments);
            }
            let argument = self.expression()?;
            if self.takes("=") {
                let value = self.expression()?;
                self.named_argument(argument, value, &mut arguments)?;
            } else {
                arguments.positional.push(argument);
            }
        }
    }

    /// Adds `name = value`, or `a.b = value`, which is an assignment.
    fn named_argument(
        &mut self,
        name: Expression,
        value: Expression,
        arguments: &mut Arguments,
    ) -> Result<(), TemplateError> {
        let mut target = self.target(name)?;
        if target.len() == 1
            && let Some(element) = target.pop_if(|element| element.arguments.is_none())
        {
            arguments.named.push((element.name, value));
        } else {
            arguments.assigned.push(Assignment { target, value });
        }
        Ok(())
    }

    fn begins_expression(&mut self) -> bool {
        match self.lexemes.peek() {
            Some(Lexeme { token: Token::Keyword(word), .. }) => {
                matches!(*word, "(" | "[" | "{" | "$" | "${" | "NOT" | "\\")
            }
            Some(Lexeme { token, .. }) => {
                matches!(token, Token::Name(_) | Token::Literal(_) | Token::Quoted(_) | Token::Number(_))
            }
            None => false,
        }
    }

    /// `name + name (arguments)`, `$variable arguments`
    pub(super) fn name_with_arguments(&mut self) -> Result<NameWithArguments, TemplateError> {
        let names = if self.takes("$") {
            vec![Expression::Variable(self.path()?)]
        } else {
            let mut names = vec![self.bare_name()?];
            while self.takes("+") {
                names.push(self.bare_name()?);
            }
            names
        };
        Ok(NameWithArguments { names, arguments: self.call_arguments()? })
    }

    /// `(arguments)`. `None` if no bracket follows.
    pub(super) fn bracketed_arguments(&mut self) -> Result<Option<Arguments>, TemplateError> {
        if !self.takes("(") {
            return Ok(None);
        }
        self.with_depth(|parser| {
            let arguments = parser.arguments()?;
            parser.expect(")")?;
            Ok(Some(arguments))
        })
    }

    fn call_arguments(&mut self) -> Result<Arguments, TemplateError> {
        match self.bracketed_arguments()? {
            Some(arguments) => Ok(arguments),
            None => self.arguments(),
        }
    }

    /// Parses a call with an optional alias, as in `FILTER alias = name`.
    pub(super) fn with_alias(&mut self) -> Result<(Option<Expression>, NameWithArguments), TemplateError> {
        if self.is_next("$") || self.is_next("${") {
            return Ok((None, self.name_with_arguments()?));
        }
        let name = self.bare_name()?;
        if self.takes("=") {
            return Ok((Some(name), self.name_with_arguments()?));
        }
        Ok((None, NameWithArguments { names: vec![name], arguments: self.call_arguments()? }))
    }

    fn bare_name(&mut self) -> Result<Expression, TemplateError> {
        match self.next_if(|token| matches!(token, Token::Literal(_) | Token::Quoted(_))) {
            Some(Token::Quoted(parts)) => self.quoted(parts),
            Some(Token::Literal(text)) => Ok(literal(&text)),
            Some(_) | None => self.file_name().map(|name| literal(&name)),
        }
    }

    /// Words joined by dots.
    pub(super) fn file_name(&mut self) -> Result<String, TemplateError> {
        let mut name = self.file_part()?;
        while self.takes(".") {
            name.push('.');
            name.push_str(&self.file_part()?);
        }
        Ok(name)
    }

    fn file_part(&mut self) -> Result<String, TemplateError> {
        let part =
            self.next_if(|token| matches!(token, Token::Name(_) | Token::Number(_) | Token::FileName(_)));
        match part {
            Some(Token::Name(part) | Token::Number(part) | Token::FileName(part)) => Ok(part),
            Some(_) | None => Err(self.unexpected()),
        }
    }
}
