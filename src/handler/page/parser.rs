//! From the words of a template to its blocks and expressions. Pure.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::vec;

use super::syntax::{Item, Token, items};
use super::template::{Expression, Filter, Node, Operator, TemplateError};

/// Blocks and brackets within one another.
const DEEPEST: usize = 32;

/// Words that mean something else than a variable.
const RESERVED: &[&str] = &[
    "GET", "CALL", "SET", "DEFAULT", "INSERT", "INCLUDE", "PROCESS", "WRAPPER", "BLOCK", "END", "USE",
    "PLUGIN", "FILTER", "MACRO", "PERL", "RAWPERL", "TO", "STEP", "AND", "OR", "NOT", "DIV", "MOD", "IF",
    "UNLESS", "ELSE", "ELSIF", "FOR", "FOREACH", "NEXT", "WHILE", "SWITCH", "CASE", "META", "IN", "TRY",
    "THROW", "CATCH", "FINAL", "LAST", "BREAK", "RETURN", "STOP", "CLEAR", "VIEW", "DEBUG", "TAGS", "and",
    "or", "not", "div", "mod",
];

/// The blocks of a whole template, and every variable it mentions.
pub(super) fn parse(text: &str) -> Result<(Vec<Node>, BTreeSet<String>), TemplateError> {
    let mut parser =
        Parser { items: items(text)?.into_iter().peekable(), line: 1, depth: 0, names: BTreeSet::new() };
    let nodes = parser.block()?;
    match parser.items.peek() {
        None => Ok((nodes, parser.names)),
        Some(_) => Err(parser.unexpected()),
    }
}

struct Parser {
    items: Peekable<vec::IntoIter<Item>>,
    line: usize,
    depth: usize,
    names: BTreeSet<String>,
}

impl Parser {
    /// Up to the end of the template or to the word that ends the block, which is left for the caller.
    fn block(&mut self) -> Result<Vec<Node>, TemplateError> {
        let mut nodes = Vec::new();
        loop {
            if let Some(Item::Text(text)) = self.items.next_if(|item| matches!(item, Item::Text(_))) {
                nodes.push(Node::Text(text));
            } else if self.takes_symbol(";") {
            } else if self.items.peek().is_none()
                || ["END", "ELSE", "ELSIF"].iter().any(|word| self.is_next(word))
            {
                return Ok(nodes);
            } else {
                let node = self.statement()?;
                self.end_of_statement()?;
                nodes.push(node);
            }
        }
    }

    fn statement(&mut self) -> Result<Node, TemplateError> {
        if self.takes_word("IF") {
            return self.deeper(|parser| parser.branches(false));
        }
        if self.takes_word("UNLESS") {
            return self.deeper(|parser| parser.branches(true));
        }
        if self.takes_word("FILTER") {
            return self.deeper(|parser| {
                let filter = parser.filter()?;
                parser.end_of_statement()?;
                let nodes = parser.block()?;
                parser.end_of_block()?;
                Ok(Node::Filter(filter, nodes))
            });
        }
        self.takes_word("GET");
        let mut node = Node::Output(self.expression()?);
        let mut filters = 0;
        while self.takes_symbol("|") || self.takes_word("FILTER") {
            filters += 1;
            if filters > DEEPEST {
                return Err(self.error(format!("more than {DEEPEST} filters on one expression")));
            }
            node = Node::Filter(self.filter()?, vec![node]);
        }
        let condition = if self.takes_word("IF") {
            self.expression()?
        } else if self.takes_word("UNLESS") {
            Expression::Not(Box::new(self.expression()?))
        } else {
            return Ok(node);
        };
        Ok(Node::If { branches: vec![(condition, vec![node])], otherwise: Vec::new() })
    }

    /// What follows `IF`, or `UNLESS`, up to and with its `END`.
    fn branches(&mut self, negated: bool) -> Result<Node, TemplateError> {
        let condition = self.expression()?;
        let condition = if negated { Expression::Not(Box::new(condition)) } else { condition };
        self.end_of_statement()?;
        let mut branches = vec![(condition, self.block()?)];
        while self.takes_word("ELSIF") {
            let condition = self.expression()?;
            self.end_of_statement()?;
            branches.push((condition, self.block()?));
        }
        let mut otherwise = Vec::new();
        if self.takes_word("ELSE") {
            self.end_of_statement()?;
            otherwise = self.block()?;
        }
        self.end_of_block()?;
        Ok(Node::If { branches, otherwise })
    }

    fn filter(&mut self) -> Result<Filter, TemplateError> {
        match self.next_token() {
            Some(Token::Word(name)) if name == "html" || name == "html_entity" => Ok(Filter::Html),
            Some(Token::Word(name)) if name == "uri" => Ok(Filter::Uri),
            Some(token) => Err(self.error(format!("the filter {token} is not supported"))),
            None => Err(self.error("a filter is missing")),
        }
    }

    fn expression(&mut self) -> Result<Expression, TemplateError> {
        let condition = self.alternatives()?;
        if !self.takes_symbol("?") {
            return Ok(condition);
        }
        self.deeper(|parser| {
            let yes = parser.expression()?;
            if !parser.takes_symbol(":") {
                return Err(parser.unexpected());
            }
            Ok(Expression::Choice(Box::new([condition, yes, parser.expression()?])))
        })
    }

    fn alternatives(&mut self) -> Result<Expression, TemplateError> {
        self.chain(Self::conjunction, |parser| {
            (parser.takes_symbol("||") || parser.takes_word("OR") || parser.takes_word("or"))
                .then_some(Operator::Or)
        })
    }

    fn conjunction(&mut self) -> Result<Expression, TemplateError> {
        self.chain(Self::comparison, |parser| {
            (parser.takes_symbol("&&") || parser.takes_word("AND") || parser.takes_word("and"))
                .then_some(Operator::And)
        })
    }

    /// One at most: what `a == b == c` means depends on the Perl that runs the original.
    fn comparison(&mut self) -> Result<Expression, TemplateError> {
        let left = self.joined()?;
        let operator = if self.takes_symbol("==") {
            Operator::Equal
        } else if self.takes_symbol("!=") {
            Operator::Unequal
        } else {
            return Ok(left);
        };
        Ok(Expression::Chain(Box::new(left), vec![(operator, self.joined()?)]))
    }

    fn joined(&mut self) -> Result<Expression, TemplateError> {
        self.chain(Self::negation, |parser| parser.takes_word("_").then_some(Operator::Join))
    }

    fn negation(&mut self) -> Result<Expression, TemplateError> {
        if self.takes_symbol("!") || self.takes_word("NOT") || self.takes_word("not") {
            return self.deeper(|parser| Ok(Expression::Not(Box::new(parser.negation()?))));
        }
        self.term()
    }

    fn term(&mut self) -> Result<Expression, TemplateError> {
        match self.next_token() {
            Some(Token::Text(text)) => Ok(Expression::Literal(text)),
            Some(Token::Word(name)) if !RESERVED.contains(&name.as_str()) => {
                self.names.insert(name.clone());
                Ok(Expression::Variable(name))
            }
            Some(Token::Symbol("(")) => self.deeper(|parser| {
                let inner = parser.expression()?;
                if parser.takes_symbol(")") { Ok(inner) } else { Err(parser.unexpected()) }
            }),
            Some(token) => Err(self.error(format!("{token} is not supported here"))),
            None => Err(self.error("the directive ends early")),
        }
    }

    /// `operand operator operand …`
    fn chain(
        &mut self,
        operand: fn(&mut Self) -> Result<Expression, TemplateError>,
        operator: fn(&mut Self) -> Option<Operator>,
    ) -> Result<Expression, TemplateError> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some(operator) = operator(self) {
            rest.push((operator, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expression::Chain(Box::new(first), rest) })
    }

    fn deeper<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, TemplateError>,
    ) -> Result<T, TemplateError> {
        if self.depth == DEEPEST {
            return Err(self.error(format!("more than {DEEPEST} blocks or brackets within one another")));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn end_of_block(&mut self) -> Result<(), TemplateError> {
        if !self.takes_word("END") {
            return Err(self.unexpected());
        }
        self.end_of_statement()
    }

    /// Every tag ends with a `;` of its own; several may follow one another.
    fn end_of_statement(&mut self) -> Result<(), TemplateError> {
        match self.items.peek() {
            None | Some(Item::Token(_, Token::Symbol(";"))) => Ok(()),
            Some(_) => Err(self.unexpected()),
        }
    }

    fn next_token(&mut self) -> Option<Token> {
        match self.items.next_if(|item| !matches!(item, Item::Text(_) | Item::Token(_, Token::Symbol(";")))) {
            Some(Item::Token(line, token)) => {
                self.line = line;
                Some(token)
            }
            Some(Item::Text(_)) | None => None,
        }
    }

    fn is_next(&mut self, word: &str) -> bool {
        matches!(self.items.peek(), Some(Item::Token(_, Token::Word(next))) if next == word)
    }

    fn takes_word(&mut self, word: &str) -> bool {
        self.is_next(word) && self.next_token().is_some()
    }

    fn takes_symbol(&mut self, symbol: &str) -> bool {
        self.items
            .next_if(|item| matches!(item, Item::Token(_, Token::Symbol(next)) if *next == symbol))
            .is_some()
    }

    fn unexpected(&mut self) -> TemplateError {
        match self.items.peek() {
            None => self.error("END is missing"),
            Some(Item::Text(_) | Item::Token(_, Token::Symbol(";"))) => {
                self.error("the directive ends early")
            }
            Some(Item::Token(line, token)) => {
                TemplateError { line: *line, message: format!("{token} is not supported here") }
            }
        }
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError { line: self.line, message: message.into() }
    }
}
