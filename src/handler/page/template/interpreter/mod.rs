//! Runs the statements of a template.

mod assignment;
mod budget;
mod call;
mod expression;
mod flow;
mod range;
mod variable;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::ast::{Action, Body, Program, Statement};
use super::filters::Filter;
use super::pattern::PatternCache;
use super::text::TaintedText;
use super::value::{ThrownException, Value, ValueHeap};
use super::{RenderError, RenderedTemplate};
use crate::handler::page::sanitized::SanitizedValue;

/// Bytes of outside text for one step. Each may be escaped.
const OUTSIDE_BYTES_PER_STEP: usize = 8;

/// The reason why a statement ends early.
#[derive(Debug)]
pub(super) enum ControlFlow {
    Next,
    Last,
    Return,
    Stop,
    Thrown(Rc<ThrownException>),
    Failed(RenderError),
}

impl ControlFlow {
    /// an error that the template cannot catch
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(RenderError::Failed { line: 0, message: message.into() })
    }

    /// an error that `TRY` can catch
    pub(super) fn thrown(kind: &str, info: TaintedText) -> Self {
        Self::Thrown(Rc::new(ThrownException::new(TaintedText::literal(kind), Value::text(info))))
    }
}

pub(super) type Outcome<T> = Result<T, ControlFlow>;

/// The state of one page.
pub(super) struct Interpreter<'t> {
    program: &'t Program,
    values: &'t dyn Fn(&str) -> Option<SanitizedValue>,
    pub(super) now: SystemTime,
    pub(super) heap: ValueHeap,
    /// the variables of the template, and of each `INCLUDE`, `MACRO` and loop inside
    scopes: Vec<BTreeMap<Arc<str>, Value>>,
    /// values of the profile
    given: BTreeMap<Arc<str>, Value>,
    missing: BTreeSet<String>,
    filters: BTreeMap<String, Filter>,
    pub(super) patterns: PatternCache,
    work: usize,
    depth: usize,
    line: usize,
}

impl<'t> Interpreter<'t> {
    pub(super) fn new(
        program: &'t Program,
        values: &'t dyn Fn(&str) -> Option<SanitizedValue>,
        now: SystemTime,
    ) -> Self {
        let mut heap = ValueHeap::default();
        let metadata = program.metadata.iter().map(|(name, text)| (name.as_str(), Value::text(text.clone())));
        let template = heap.add_pairs(metadata.collect());
        let global = heap.add_pairs(Vec::new());
        let scope = [("template", template.clone()), ("component", template), ("global", global)]
            .map(|(name, value)| (name.into(), value))
            .into();
        Self {
            program,
            values,
            now,
            heap,
            scopes: vec![scope],
            given: BTreeMap::new(),
            missing: BTreeSet::new(),
            filters: BTreeMap::new(),
            patterns: PatternCache::default(),
            work: 0,
            depth: 0,
            line: 1,
        }
    }

    pub(super) fn render(mut self) -> Result<RenderedTemplate, RenderError> {
        let mut page = TaintedText::default();
        let program = self.program;
        match self.run(&program.body, &mut page) {
            Ok(()) | Err(ControlFlow::Return | ControlFlow::Stop | ControlFlow::Next | ControlFlow::Last) => {
            }
            Err(ControlFlow::Thrown(error)) => {
                let message = Value::Error(error).to_text().to_message();
                return Err(RenderError::Failed { line: self.line, message });
            }
            Err(ControlFlow::Failed(error)) => return Err(error),
        }
        let escaped = page.outside_len();
        let checked = self
            .spend(escaped / OUTSIDE_BYTES_PER_STEP)
            .and_then(|()| self.check_length(page.len()))
            .map(|()| page.to_page())
            .and_then(|page| self.check_length(page.len()).map(|()| page));
        match checked {
            Ok(page) => Ok(RenderedTemplate { page, missing: self.missing }),
            Err(ControlFlow::Failed(error)) => Err(error),
            Err(_) => Err(RenderError::TooMuchWork { line: self.line }),
        }
    }

    fn run(&mut self, body: &Body, output: &mut TaintedText) -> Outcome<()> {
        self.deeper(|interpreter| {
            body.iter().try_for_each(|statement| interpreter.run_statement(statement, output))
        })
    }

    /// Adds the statement's line to a failure without a line.
    fn run_statement(&mut self, statement: &Statement, output: &mut TaintedText) -> Outcome<()> {
        if !matches!(statement.action, Action::Text(_)) {
            self.line = statement.line;
        }
        self.spend(1)?;
        match self.act(&statement.action, output) {
            Err(ControlFlow::Failed(RenderError::Failed { line: 0, message })) => {
                Err(ControlFlow::Failed(RenderError::Failed { line: statement.line, message }))
            }
            other => other,
        }
    }

    fn act(&mut self, action: &Action, output: &mut TaintedText) -> Outcome<()> {
        match action {
            Action::Text(text) => self.append(output, text),
            Action::Output(expression) => {
                let value = self.evaluate(expression)?;
                self.append(output, &value.to_text())
            }
            Action::Call(expression) => self.evaluate(expression).map(drop),
            Action::Assign(assignments) => self.assign_all(assignments, false),
            Action::Default(assignments) => self.assign_all(assignments, true),
            Action::Capture(target, body) => {
                let text = self.written(body)?;
                self.assign(target, Value::text(text), false).map(drop)
            }
            Action::If(branches) => self.branch(branches, output),
            Action::Switch(value, cases) => self.switch(value, cases, output),
            Action::For(each) => self.for_each(each, output),
            Action::While(condition, body) => self.repeat_while(condition, body, output),
            Action::Next => Err(ControlFlow::Next),
            Action::Last => Err(ControlFlow::Last),
            Action::Return => Err(ControlFlow::Return),
            Action::Stop => Err(ControlFlow::Stop),
            Action::Clear => {
                output.clear();
                Ok(())
            }
            Action::Block(body) => self.run_block(body, output),
            Action::Include(call) => self.include(call, true, output),
            Action::Process(call) => self.include(call, false, output),
            Action::Wrapper(call, body) => self.wrap(call, body, output),
            Action::Filter(call, body) => self.filter(call, body, output),
            Action::Macro(name, definition) => {
                self.set_variable(name, Value::Macro(Arc::clone(definition)));
                Ok(())
            }
            Action::UseDate { variable, arguments } => self.use_date(variable, arguments),
            Action::Try(attempt) => self.attempt(attempt, output),
            Action::Throw(call) => self.throw(call),
        }
    }

    /// The output of statements as a text.
    fn written(&mut self, body: &Body) -> Outcome<TaintedText> {
        let mut text = TaintedText::default();
        self.run(body, &mut text)?;
        Ok(text)
    }

    /// The output of a body. Output before an error, `RETURN` or `STOP` is kept, as in Template Toolkit.
    fn written_into(&mut self, body: &Body, output: &mut TaintedText) -> Outcome<TaintedText> {
        let mut text = TaintedText::default();
        match self.run(body, &mut text) {
            Ok(()) => Ok(text),
            Err(interrupt @ (ControlFlow::Return | ControlFlow::Stop | ControlFlow::Thrown(_))) => {
                self.append(output, &text)?;
                Err(interrupt)
            }
            Err(interrupt @ (ControlFlow::Next | ControlFlow::Last | ControlFlow::Failed(_))) => {
                Err(interrupt)
            }
        }
    }
}

pub(super) use self::call::argument_text;
pub(super) use self::variable::position;
