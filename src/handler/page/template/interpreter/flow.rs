//! Conditions, loops and errors.

use std::cell::Cell;
use std::rc::Rc;

use super::{ControlFlow, Interpreter, Outcome};
use crate::handler::page::template::ast::{Body, Branches, Expression, Loop, NameWithArguments, Try};
use crate::handler::page::template::text::TaintedText;
use crate::handler::page::template::value::{
    Entry, Hash, HashId, ListId, LoopIteration, ThrownException, Value,
};

/// Iterations of a `WHILE`, as in Template Toolkit.
const MAX_TURNS: usize = 1000;

impl Interpreter<'_> {
    pub(super) fn branch(&mut self, branches: &Branches, output: &mut TaintedText) -> Outcome<()> {
        for (condition, body) in &branches.cases {
            if self.evaluate(condition)?.is_true() {
                return self.run(body, output);
            }
        }
        self.run(&branches.otherwise, output)
    }

    /// Compares with a case, a value or a list of values. A line end behind the value is ignored.
    pub(super) fn switch(
        &mut self,
        value: &Expression,
        cases: &Branches,
        output: &mut TaintedText,
    ) -> Outcome<()> {
        let value = self.evaluate(value)?.to_text();
        for (case, body) in &cases.cases {
            let case = self.evaluate(case)?;
            let candidates = self.items_or_single(case)?;
            self.spend(candidates.len().saturating_mul(1 + value.len() / 256))?;
            let fits = |candidate: &Value| {
                let candidate = candidate.to_text();
                let candidate = candidate.as_str();
                candidate == value.as_str() || candidate.strip_suffix('\n') == Some(value.as_str())
            };
            if candidates.iter().any(fits) {
                return self.run(body, output);
            }
        }
        self.run(&cases.otherwise, output)
    }

    pub(super) fn for_each(&mut self, each: &Loop, output: &mut TaintedText) -> Outcome<()> {
        let list = self.evaluate(&each.list)?;
        if let Value::Iterator(_) = list {
            return Err(ControlFlow::failed("a loop over 'loop' is not supported"));
        }
        let list = self.items_of(list)?;
        let size = self.heap.list(list).len();
        let iteration = Rc::new(LoopIteration { list, index: Cell::new(0), size });
        let outer = self.variable("loop");
        if each.variable.is_none() {
            self.open_scope();
        }
        self.set_variable("loop", Value::Iterator(Rc::clone(&iteration)));
        let mut result = Ok(());
        for index in 0..size {
            let value = self.heap.list(list).get(index).cloned().unwrap_or(Value::Undefined);
            iteration.index.set(index);
            match (&each.variable, value) {
                (Some(name), value) => self.set_variable(name, value),
                (None, Value::Hash(id)) => self.import(id)?,
                (None, _) => (),
            }
            result = self.run(&each.body, output);
            match result {
                Ok(()) | Err(ControlFlow::Next) => result = Ok(()),
                Err(ControlFlow::Last) => {
                    result = Ok(());
                    break;
                }
                Err(
                    ControlFlow::Return | ControlFlow::Stop | ControlFlow::Thrown(_) | ControlFlow::Failed(_),
                ) => {
                    break;
                }
            }
        }
        if each.variable.is_none() {
            self.close_scope();
        } else {
            let outer = if outer.is_defined() { outer } else { Value::literal("") };
            self.set_variable("loop", outer);
        }
        result
    }

    /// The items of a loop: the pairs of a hash, no item for a false value, one item for any other.
    fn items_of(&mut self, value: Value) -> Outcome<ListId> {
        let items = if let Value::List(id) = value {
            return Ok(id);
        } else if let Value::Hash(id) = value {
            self.pairs(id)?
        } else if value.is_true() {
            vec![value]
        } else {
            Vec::new()
        };
        self.add_list_id(items)
    }

    /// Hashes with `key` and `value`, sorted by key.
    pub(in super::super) fn pairs(&mut self, id: HashId) -> Outcome<Vec<Value>> {
        let entries = self.entries(id)?;
        self.spend(4 * entries.len())?;
        Ok(entries
            .into_iter()
            .map(|entry| self.heap.add_pairs(vec![("key", Value::Text(entry.key)), ("value", entry.value)]))
            .collect())
    }

    pub(in super::super) fn entries(&mut self, id: HashId) -> Outcome<Vec<Entry>> {
        self.spend(self.heap.hash(id).map_or(0, Hash::len))?;
        Ok(self.heap.hash(id).into_iter().flat_map(|hash| hash.values().cloned()).collect())
    }

    pub(super) fn repeat_while(
        &mut self,
        condition: &Expression,
        body: &Body,
        output: &mut TaintedText,
    ) -> Outcome<()> {
        for _ in 1..MAX_TURNS {
            if !self.evaluate(condition)?.is_true() {
                return Ok(());
            }
            match self.run(body, output) {
                Ok(()) | Err(ControlFlow::Next) => (),
                Err(ControlFlow::Last) => return Ok(()),
                Err(other) => return Err(other),
            }
        }
        let message = format!("WHILE loop terminated (> {MAX_TURNS} iterations)\n");
        Err(ControlFlow::thrown("undef", TaintedText::literal(&message)))
    }

    pub(super) fn attempt(&mut self, attempt: &Try, output: &mut TaintedText) -> Outcome<()> {
        let mut text = TaintedText::default();
        let mut result = self.run(&attempt.body, &mut text);
        if let Err(ControlFlow::Thrown(error)) = &result {
            let error = Rc::clone(error);
            if let Some(handler) = handler_for(attempt, error.kind.as_str()) {
                self.set_variable("error", Value::Error(Rc::clone(&error)));
                self.set_variable("e", Value::Error(error));
                result = self.run(handler, &mut text);
            }
        }
        if matches!(result, Ok(()) | Err(ControlFlow::Thrown(_))) {
            let last = self.run(&attempt.last, &mut text);
            if result.is_ok() {
                result = last;
            }
        }
        if !matches!(result, Err(ControlFlow::Next | ControlFlow::Last | ControlFlow::Failed(_))) {
            self.append(output, &text)?;
        }
        result
    }

    /// Throws an error. A caught error is thrown again unchanged. A single word is the message, not the type.
    pub(super) fn throw(&mut self, call: &NameWithArguments) -> Outcome<()> {
        let kind = match call.names.first() {
            Some(name) => self.evaluate(name)?,
            None => Value::Undefined,
        };
        if let Value::Error(error) = kind {
            return Err(ControlFlow::Thrown(error));
        }
        let arguments = &call.arguments;
        let mut values = self.arguments(Some(arguments))?;
        if arguments.positional.is_empty() {
            return Err(self.thrown(TaintedText::literal("undef"), kind));
        }
        let has_one = arguments.positional.len() == 1 && values.len() == 1;
        let info =
            if has_one { values.pop().unwrap_or(Value::Undefined) } else { self.error_details(values)? };
        let kind = kind.to_text();
        self.spend_text(&kind)?;
        Err(self.thrown(TaintedText::clone(&kind), info))
    }

    fn thrown(&mut self, kind: TaintedText, info: Value) -> ControlFlow {
        match self.spend_text(&info.to_text()) {
            Ok(()) => ControlFlow::Thrown(Rc::new(ThrownException::new(kind, info))),
            Err(interrupt) => interrupt,
        }
    }

    /// The arguments of `THROW`: by number, as the list `args`, and by name.
    fn error_details(&mut self, mut values: Vec<Value>) -> Outcome<Value> {
        let named = match values.last() {
            Some(Value::Hash(id)) => self.heap.hash(*id).cloned(),
            _ => None,
        };
        if named.is_some() {
            values.pop();
        }
        let mut details = named.unwrap_or_default();
        self.spend(details.len())?;
        for (number, value) in values.iter().enumerate() {
            self.insert(&mut details, &TaintedText::literal(&number.to_string()), value.clone())?;
        }
        let list = self.add_list(values)?;
        self.insert(&mut details, &TaintedText::literal("args"), list)?;
        Ok(Value::Hash(self.heap.add_hash(details)))
    }
}

/// Finds the handler of `a.b`: `a.b`, then `a`, then the one that catches all.
fn handler_for<'a>(attempt: &'a Try, kind: &str) -> Option<&'a Body> {
    let named = |kind: &str| {
        let found = attempt.handlers.iter().find(|(name, _)| name.as_deref() == Some(kind));
        found.map(|(_, body)| body)
    };
    let mut kind = kind;
    loop {
        if let Some(body) = named(kind) {
            return Some(body);
        }
        match kind.rsplit_once('.') {
            Some((shorter, _)) => kind = shorter,
            None => break,
        }
    }
    attempt.handlers.iter().find(|(name, _)| name.is_none()).map(|(_, body)| body)
}
