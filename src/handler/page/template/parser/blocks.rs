//! Statements with a block: conditions, loops, filters, and named blocks.

use super::Parser;
use crate::handler::page::template::TemplateError;
use crate::handler::page::template::ast::{
    Action, Body, Branches, Expression, Loop, Program, Statement, Try,
};
use crate::handler::page::template::lexer::{QuotedPart, Token};
use crate::handler::page::template::text::TaintedText;

/// Parses a block statement after its keyword.
type BlockRule = fn(&mut Parser) -> Result<Action, TemplateError>;

impl Parser {
    pub(super) fn block_directive(&mut self) -> Result<Option<Action>, TemplateError> {
        let kinds: [(&str, BlockRule); 8] = [
            ("IF", |parser| parser.branches(false)),
            ("UNLESS", |parser| parser.branches(true)),
            ("SWITCH", Self::switch),
            ("FOR", Self::for_loop),
            ("WHILE", Self::while_loop),
            ("TRY", Self::attempt),
            ("WRAPPER", Self::wrapper),
            ("FILTER", Self::filtered),
        ];
        match kinds.iter().find(|(word, _)| self.is_next(word)) {
            Some((_, parse)) => {
                self.next();
                let action = self.with_depth(parse)?;
                // a block may be followed by a filter
                let may_go_on = matches!(action, Action::Wrapper(..) | Action::Filter(..));
                if may_go_on { self.parse_modifiers(action).map(Some) } else { Ok(Some(action)) }
            }
            None => Ok(None),
        }
    }

    /// Parses `IF` or `UNLESS` up to its `END`.
    fn branches(&mut self, is_negated: bool) -> Result<Action, TemplateError> {
        let condition = self.condition(is_negated)?;
        self.expect(";")?;
        let mut cases = vec![(condition, self.body()?)];
        while self.takes("ELSIF") {
            let condition = self.expression()?;
            self.expect(";")?;
            cases.push((condition, self.body()?));
        }
        let otherwise = self.optional_body("ELSE")?;
        self.expect("END")?;
        Ok(Action::If(Branches { cases, otherwise }))
    }

    pub(super) fn condition(&mut self, is_negated: bool) -> Result<Expression, TemplateError> {
        let condition = self.expression()?;
        Ok(if is_negated { Expression::Not(Box::new(condition)) } else { condition })
    }

    /// Parses the body behind a keyword. Without the keyword it is empty.
    fn optional_body(&mut self, keyword: &str) -> Result<Body, TemplateError> {
        if !self.takes(keyword) {
            return Ok(Body::new());
        }
        self.expect(";")?;
        self.body()
    }

    /// Text before the first `CASE` is dropped, as in Template Toolkit.
    fn switch(&mut self) -> Result<Action, TemplateError> {
        let value = self.expression()?;
        self.expect(";")?;
        self.body()?;
        let mut cases = Vec::new();
        let mut otherwise = Body::new();
        while self.takes("CASE") {
            if self.takes("DEFAULT") || self.is_next(";") {
                self.expect(";")?;
                otherwise = self.body()?;
                break;
            }
            let case = self.term()?;
            self.expect(";")?;
            cases.push((case, self.body()?));
        }
        self.expect("END")?;
        Ok(Action::Switch(value, Branches { cases, otherwise }))
    }

    fn for_loop(&mut self) -> Result<Action, TemplateError> {
        let (variable, list) = self.loop_head()?;
        self.expect(";")?;
        let body = self.loop_body()?;
        Ok(Action::For(Loop { variable, list, body }))
    }

    fn while_loop(&mut self) -> Result<Action, TemplateError> {
        let condition = self.expression()?;
        self.expect(";")?;
        Ok(Action::While(condition, self.loop_body()?))
    }

    fn loop_body(&mut self) -> Result<Body, TemplateError> {
        // The body may contain a named block that fails, which leaves another count.
        let loops = self.loops;
        self.loops += 1;
        let body = self.body_and_end();
        self.loops = loops;
        body
    }

    /// Parses `name IN list`, `name = list`, or only a list. Arguments behind it are ignored, as in Template Toolkit.
    pub(super) fn loop_head(&mut self) -> Result<(Option<String>, Expression), TemplateError> {
        let first = self.term()?;
        let is_assigned = self.takes("=") || self.takes("IN");
        let (variable, list) = if is_assigned {
            let mut path = self.target(first)?;
            let element = path.pop().filter(|element| element.arguments.is_none());
            let (Some(Expression::Literal(name)), true) = (element.map(|it| it.name), path.is_empty()) else {
                return Err(self.error("a loop's variable is one name"));
            };
            (Some(name.as_str().to_owned()), self.term()?)
        } else {
            (None, first)
        };
        self.arguments()?;
        Ok((variable, list))
    }

    fn wrapper(&mut self) -> Result<Action, TemplateError> {
        let names = self.name_with_arguments()?;
        self.expect(";")?;
        Ok(Action::Wrapper(names, self.body_and_end()?))
    }

    fn filtered(&mut self) -> Result<Action, TemplateError> {
        let filter = self.filter()?;
        self.expect(";")?;
        Ok(Action::Filter(filter, self.body_and_end()?))
    }

    fn attempt(&mut self) -> Result<Action, TemplateError> {
        self.expect(";")?;
        let body = self.body()?;
        let mut handlers = Vec::new();
        while self.takes("CATCH") {
            let kind =
                if self.is_next(";") || self.takes("DEFAULT") { None } else { Some(self.file_name()?) };
            self.expect(";")?;
            handlers.push((kind, self.body()?));
        }
        let last = self.optional_body("FINAL")?;
        self.expect("END")?;
        Ok(Action::Try(Try { body, handlers, last }))
    }

    /// Parses `BLOCK name`, which is stored, or a block without a name, which is printed in place.
    pub(super) fn block(&mut self) -> Result<Option<Statement>, TemplateError> {
        self.next();
        let name = match self.next_if(|token| matches!(token, Token::Literal(_))) {
            Some(Token::Literal(name)) => Some(name),
            Some(_) | None if self.is_next(";") => None,
            Some(_) | None => Some(self.file_name()?),
        };
        if name.is_some() && !self.is_next(";") {
            self.metadata_pairs()?;
        }
        self.expect(";")?;
        let Some(name) = name else {
            let body = self.with_depth(Self::body_and_end)?;
            self.expect(";")?;
            return Ok(Some(self.new_statement(Action::Block(body))));
        };
        let loops = std::mem::take(&mut self.loops);
        self.block_names.push(name);
        let body = self.with_depth(Self::body_and_end)?;
        self.expect(";")?;
        self.program.blocks.insert(self.block_names.join("/"), body);
        self.block_names.pop();
        self.loops = loops;
        Ok(None)
    }

    /// `name = 'text', name = 42`
    pub(super) fn metadata_pairs(&mut self) -> Result<Vec<(String, TaintedText)>, TemplateError> {
        let mut pairs = Vec::new();
        while let Some(name) = self.takes_name() {
            self.expect("=")?;
            let value = self
                .next_if(|token| matches!(token, Token::Literal(_) | Token::Number(_) | Token::Quoted(_)));
            let text = if let Some(Token::Literal(text) | Token::Number(text)) = value {
                text
            } else if let Some(Token::Quoted(parts)) = value
                && let [QuotedPart::Text(text)] = parts.as_slice()
            {
                text.clone()
            } else {
                return Err(self.error("a text without variables is needed here"));
            };
            pairs.push((name, TaintedText::literal(&text)));
            while self.takes(",") {}
        }
        if pairs.is_empty() { Err(self.unexpected()) } else { Ok(pairs) }
    }
}

impl Program {
    /// Rejects names of missing blocks, which would be files.
    pub(super) fn check_names(&self) -> Result<(), TemplateError> {
        let mut bodies: Vec<&Body> = self.blocks.values().chain([&self.body]).collect();
        while let Some(body) = bodies.pop() {
            for statement in body {
                for name in statement.action.block_names() {
                    if !self.blocks.contains_key(name) {
                        let message =
                            format!("'{name}' is not a block of this file, and files are not included");
                        return Err(TemplateError::new(statement.line, message));
                    }
                }
                bodies.extend(statement.action.bodies());
            }
        }
        Ok(())
    }
}

impl Action {
    /// The block names that are literals.
    fn block_names(&self) -> Vec<&str> {
        let names = if let Self::Include(call) | Self::Process(call) | Self::Wrapper(call, _) = self {
            call.names.as_slice()
        } else {
            &[]
        };
        names
            .iter()
            .filter_map(|name| if let Expression::Literal(name) = name { Some(name.as_str()) } else { None })
            .collect()
    }

    fn bodies(&self) -> Vec<&Body> {
        match self {
            Self::Capture(_, body)
            | Self::While(_, body)
            | Self::Block(body)
            | Self::Wrapper(_, body)
            | Self::Filter(_, body)
            | Self::For(Loop { body, .. }) => vec![body],
            Self::If(Branches { cases, otherwise }) | Self::Switch(_, Branches { cases, otherwise }) => {
                cases.iter().map(|(_, body)| body).chain([otherwise]).collect()
            }
            Self::Macro(_, definition) => vec![&definition.body],
            Self::Try(Try { body, handlers, last }) => {
                handlers.iter().map(|(_, body)| body).chain([body, last]).collect()
            }
            Self::Text(_)
            | Self::Output(_)
            | Self::Call(_)
            | Self::Assign(_)
            | Self::Default(_)
            | Self::Next
            | Self::Last
            | Self::Return
            | Self::Stop
            | Self::Clear
            | Self::Include(_)
            | Self::Process(_)
            | Self::UseDate { .. }
            | Self::Throw(_) => Vec::new(),
        }
    }
}
