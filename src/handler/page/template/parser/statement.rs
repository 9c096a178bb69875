//! Statements, and the modifiers behind them.

use std::sync::Arc;

use super::Parser;
use crate::handler::page::template::TemplateError;
use crate::handler::page::template::ast::{
    Action, Assignment, Body, Branches, Expression, FilterCall, Loop, Macro, NameWithArguments, Statement,
};
use crate::handler::page::template::filters;
use crate::handler::page::template::lexer::{Lexeme, Token};
use crate::handler::page::template::text::TaintedText;

/// Statements that run code, read files, or only help developers.
const REFUSED: &[(&str, &str)] = &[
    ("PERL", "runs Perl"),
    ("RAWPERL", "runs Perl"),
    ("INSERT", "reads a file"),
    ("VIEW", "is not supported"),
    ("PLUGIN", "runs Perl"),
    ("DEBUG", "is not supported"),
    ("\\", "makes a reference, which is not supported"),
];

/// Directives without a block.
const SIMPLE_DIRECTIVES: &[&str] = &[
    "GET", "CALL", "SET", "DEFAULT", "INCLUDE", "PROCESS", "THROW", "RETURN", "STOP", "CLEAR", "LAST", "NEXT",
];

impl Parser {
    /// Parses a statement with its end. `None` for a declaration.
    pub(super) fn statement(&mut self) -> Result<Option<Statement>, TemplateError> {
        if let Some(Token::Text(text)) = self.next_if(|token| matches!(token, Token::Text(_))) {
            return Ok(Some(self.new_statement(Action::Text(TaintedText::literal(&text)))));
        }
        self.line = self.lexemes.peek().map_or(self.line, |lexeme| lexeme.line);
        let line = self.line;
        if self.takes("META") {
            let pairs = self.metadata_pairs()?;
            self.program.metadata.extend(pairs);
            self.expect(";")?;
            return Ok(None);
        }
        if self.is_next("BLOCK") {
            return self.block();
        }
        let action = self.action()?;
        self.expect(";")?;
        Ok(Some(Statement { line, action }))
    }

    pub(super) fn new_statement(&self, action: Action) -> Statement {
        Statement { line: self.line, action }
    }

    fn action(&mut self) -> Result<Action, TemplateError> {
        self.refuse()?;
        if self.takes("MACRO") {
            return self.macro_definition();
        }
        if self.takes("USE") {
            return self.plugin();
        }
        if let Some(action) = self.directive()? {
            return Ok(action);
        }
        let expression = self.expression()?;
        if !self.takes("=") {
            return self.parse_modifiers(Action::Output(expression));
        }
        let target = self.target(expression)?;
        if let Some(body) = self.captured()? {
            return Ok(Action::Capture(target, body));
        }
        let value = self.expression()?;
        if self.has_modifier() {
            let written = self.parse_modifiers(Action::Output(value))?;
            return Ok(Action::Capture(target, vec![self.new_statement(written)]));
        }
        if self.takes("=") {
            // `a = b = c` sets b, and sets a to the output of that assignment
            let inner = Assignment { target: self.target(value)?, value: self.expression()? };
            return Ok(Action::Capture(target, vec![self.new_statement(Action::Assign(vec![inner]))]));
        }
        let first = Assignment { target, value };
        Ok(Action::Assign(self.assignments(vec![first])?))
    }

    fn refuse(&mut self) -> Result<(), TemplateError> {
        let refused = REFUSED.iter().find(|(word, _)| self.is_next(word));
        match (refused, self.lexemes.peek()) {
            (Some((word, why)), Some(lexeme)) => {
                Err(TemplateError::new(lexeme.line, format!("'{word}' {why}")))
            }
            _ => Ok(()),
        }
    }

    /// Parses the statement whose output is assigned. `None` if an expression follows.
    fn captured(&mut self) -> Result<Option<Body>, TemplateError> {
        self.refuse()?;
        if self.takes("BLOCK") {
            self.expect(";")?;
            return self.with_depth(Self::body_and_end).map(Some);
        }
        let action = self.directive()?;
        Ok(action.map(|action| vec![self.new_statement(action)]))
    }

    fn directive(&mut self) -> Result<Option<Action>, TemplateError> {
        if let Some(action) = self.block_directive()? {
            return Ok(Some(action));
        }
        let action = self.simple_directive()?;
        action.map(|action| self.parse_modifiers(action)).transpose()
    }

    pub(super) fn body_and_end(&mut self) -> Result<Body, TemplateError> {
        let body = self.body()?;
        self.expect("END")?;
        Ok(body)
    }

    /// Statements without a block, which may have a modifier.
    fn simple_directive(&mut self) -> Result<Option<Action>, TemplateError> {
        let Some(Token::Keyword(word)) =
            self.next_if(|token| matches!(token, Token::Keyword(word) if SIMPLE_DIRECTIVES.contains(word)))
        else {
            return Ok(None);
        };
        Ok(Some(match word {
            "GET" => Action::Output(self.expression()?),
            "CALL" => Action::Call(self.expression()?),
            "SET" => Action::Assign(self.assignments(Vec::new())?),
            "DEFAULT" => Action::Default(self.assignments(Vec::new())?),
            "INCLUDE" => Action::Include(self.name_with_arguments()?),
            "PROCESS" => Action::Process(self.name_with_arguments()?),
            "THROW" => Action::Throw(self.name_with_arguments()?),
            "RETURN" => Action::Return,
            "STOP" => Action::Stop,
            "CLEAR" => Action::Clear,
            "LAST" => Action::Last,
            _ => Action::Next,
        }))
    }

    /// `a = b, c = d`
    fn assignments(&mut self, mut known: Vec<Assignment>) -> Result<Vec<Assignment>, TemplateError> {
        loop {
            while self.takes(",") {}
            let literal = self.next_if(|token| matches!(token, Token::Literal(_)));
            let target = match literal {
                Some(Token::Literal(text)) => self.target(super::literal(&text))?,
                Some(_) | None if known.is_empty() || self.begins_name() => self.path()?,
                Some(_) | None => return Ok(known),
            };
            self.expect("=")?;
            known.push(Assignment { target, value: self.expression()? });
        }
    }

    fn begins_name(&mut self) -> bool {
        matches!(self.lexemes.peek(), Some(Lexeme { token: Token::Name(_) | Token::Keyword("$" | "${"), .. }))
    }

    fn has_modifier(&mut self) -> bool {
        ["FILTER", "WRAPPER", "IF", "UNLESS", "FOR", "WHILE"].iter().any(|word| self.is_next(word))
    }

    /// Parses filters and wrappers behind a statement, then one condition or loop.
    pub(super) fn parse_modifiers(&mut self, mut action: Action) -> Result<Action, TemplateError> {
        let mut count = 0;
        while self.is_next("FILTER") || self.is_next("WRAPPER") {
            count += 1;
            if count > super::MAX_DEPTH {
                let message = format!("more than {} filters on one expression", super::MAX_DEPTH);
                return Err(self.error(message));
            }
            let body = vec![self.new_statement(action)];
            action = if self.takes("FILTER") {
                Action::Filter(self.filter()?, body)
            } else {
                self.next();
                Action::Wrapper(self.name_with_arguments()?, body)
            };
        }
        let is_exit = matches!(action, Action::Last | Action::Next);
        if is_exit && self.loops == 0 && !self.is_next("FOR") && !self.is_next("WHILE") {
            return Err(self.error("'NEXT' and 'LAST' belong into a loop"));
        }
        let body = |parser: &Self, action| vec![parser.new_statement(action)];
        Ok(if self.is_next("IF") || self.is_next("UNLESS") {
            let is_negated = self.next() == Some(Token::Keyword("UNLESS"));
            let cases = vec![(self.condition(is_negated)?, body(self, action))];
            Action::If(Branches { cases, otherwise: Body::new() })
        } else if self.takes("FOR") {
            let (variable, list) = self.loop_head()?;
            Action::For(Loop { variable, list, body: body(self, action) })
        } else if self.takes("WHILE") {
            Action::While(self.expression()?, body(self, action))
        } else {
            action
        })
    }

    pub(super) fn filter(&mut self) -> Result<FilterCall, TemplateError> {
        if matches!(self.lexemes.peek(), None | Some(Lexeme { token: Token::Keyword(";"), .. })) {
            return Err(self.error("a filter is missing"));
        }
        let (alias, NameWithArguments { mut names, arguments }) = self.with_alias()?;
        let (Some(name), true) = (names.pop(), names.is_empty()) else {
            return Err(self.error("only one filter is supported here"));
        };
        if let Expression::Literal(text) = &name
            && !filters::is_known(text.as_str())
            && !self.program.aliases.contains(text.as_str())
        {
            return Err(self.error(format!("the filter '{}' is not supported", text.as_str())));
        }
        if let Some(Expression::Literal(text)) = &alias {
            self.program.aliases.insert(text.as_str().to_owned());
        }
        Ok(FilterCall { name, arguments, alias })
    }

    fn macro_definition(&mut self) -> Result<Action, TemplateError> {
        let name = self.takes_name().ok_or_else(|| self.unexpected())?;
        let parameters = if self.takes("(") {
            let mut parameters = Vec::new();
            while !self.takes(")") {
                if !self.takes(",") {
                    parameters.push(self.takes_name().ok_or_else(|| self.unexpected())?);
                }
            }
            Some(parameters)
        } else {
            None
        };
        let loops = std::mem::take(&mut self.loops);
        let body = if let Some(body) = self.captured()? {
            body
        } else {
            let output = Action::Output(self.expression()?);
            let action = self.parse_modifiers(output)?;
            vec![self.new_statement(action)]
        };
        self.loops = loops;
        self.program.assigned.extend(parameters.iter().flatten().chain([&name]).cloned());
        Ok(Action::Macro(name, Arc::new(Macro { parameters, body })))
    }

    fn plugin(&mut self) -> Result<Action, TemplateError> {
        let (alias, NameWithArguments { mut names, arguments }) = self.with_alias()?;
        let name = names.pop();
        match name {
            Some(Expression::Literal(name)) if ["date", "Date"].contains(&name.as_str()) => {
                let variable = alias.unwrap_or(Expression::Literal(name));
                self.note_assigned(&variable);
                Ok(Action::UseDate { variable, arguments })
            }
            Some(Expression::Literal(name)) => {
                Err(self.error(format!("the plugin '{}' is not supported", name.as_str())))
            }
            Some(_) | None => Err(self.error("a plugin whose name is not fixed is not supported")),
        }
    }
}
