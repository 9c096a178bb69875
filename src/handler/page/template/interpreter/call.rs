//! Blocks, wrappers, filters and the date plugin.

use std::sync::Arc;

use super::{ControlFlow, Interpreter, Outcome};
use crate::handler::page::template::ast::{Arguments, Body, Expression, FilterCall, NameWithArguments};
use crate::handler::page::template::filters::Filter;
use crate::handler::page::template::text::TaintedText;
use crate::handler::page::template::value::{Hash, HashId, Value};

impl Interpreter<'_> {
    /// The values of arguments. Named ones become a hash at the end.
    pub(super) fn arguments(&mut self, arguments: Option<&Arguments>) -> Outcome<Vec<Value>> {
        let Some(arguments) = arguments else { return Ok(Vec::new()) };
        let mut values = Vec::new();
        for argument in &arguments.positional {
            values.push(self.evaluate(argument)?);
        }
        if !arguments.named.is_empty() || !arguments.assigned.is_empty() {
            let named = self.named(arguments)?;
            values.push(Value::Hash(self.heap.add_hash(named)));
        }
        Ok(values)
    }

    fn named(&mut self, arguments: &Arguments) -> Outcome<Hash> {
        let mut named = Hash::new();
        for (name, value) in &arguments.named {
            let name = self.evaluate(name)?.to_text();
            let value = self.evaluate(value)?;
            self.insert(&mut named, &name, value)?;
        }
        for assignment in &arguments.assigned {
            let value = self.evaluate(&assignment.value)?;
            let value = self.assign(&assignment.target, value, false)?;
            self.insert(&mut named, &TaintedText::default(), value)?;
        }
        Ok(named)
    }

    /// Sets the variables of a block in the current scope.
    fn set_named(&mut self, arguments: &Arguments) -> Outcome<()> {
        let mut named = self.named(arguments)?;
        if let Some(Value::Hash(id)) = named.get("import").map(|entry| entry.value.clone()) {
            named.remove("import");
            self.import(id)?;
        }
        for (name, entry) in named {
            self.set_variable(&name, entry.value);
        }
        Ok(())
    }

    pub(super) fn include(
        &mut self,
        call: &NameWithArguments,
        is_local: bool,
        output: &mut TaintedText,
    ) -> Outcome<()> {
        let names = self.block_names(call)?;
        self.within_scope(is_local, |interpreter| {
            interpreter.set_named(&call.arguments)?;
            names.iter().try_for_each(|name| interpreter.run_named_block(name, output))
        })
    }

    fn within_scope(&mut self, is_local: bool, run: impl FnOnce(&mut Self) -> Outcome<()>) -> Outcome<()> {
        if !is_local {
            return run(self);
        }
        self.open_scope();
        let result = run(self);
        self.close_scope();
        result
    }

    fn block_names(&mut self, call: &NameWithArguments) -> Outcome<Vec<Arc<TaintedText>>> {
        let mut names = Vec::new();
        for name in &call.names {
            let name = self.evaluate(name)?;
            let all = self.items_or_single(name)?;
            self.spend_texts(&all)?;
            names.extend(all.iter().map(Value::to_text));
        }
        Ok(names)
    }

    fn run_named_block(&mut self, name: &TaintedText, output: &mut TaintedText) -> Outcome<()> {
        let program = self.program;
        let Some(body) = program.blocks.get(name.as_str()) else {
            let name = name.slice(0..name.position(64)).to_message();
            let message = format!("'{}' is not a block of this file", name.escape_debug());
            return Err(ControlFlow::failed(message));
        };
        self.run_block(body, output)
    }

    /// Runs a block. `RETURN` leaves only this block.
    pub(super) fn run_block(&mut self, body: &Body, output: &mut TaintedText) -> Outcome<()> {
        match self.written_into(body, output) {
            Ok(text) => self.append(output, &text),
            Err(ControlFlow::Return) => Ok(()),
            Err(interrupt) => Err(interrupt),
        }
    }

    /// Runs a wrapper. Its variable `content` is the output of `body`; the last of several names is the innermost.
    pub(super) fn wrap(
        &mut self,
        call: &NameWithArguments,
        body: &Body,
        output: &mut TaintedText,
    ) -> Outcome<()> {
        let mut content = self.written_into(body, output)?;
        for name in self.block_names(call)?.iter().rev() {
            let mut wrapped = TaintedText::default();
            self.spend_text(&content)?;
            let result = self.within_scope(true, |interpreter| {
                interpreter.set_named(&call.arguments)?;
                interpreter.set_variable("content", Value::text(content.clone()));
                interpreter.run_named_block(name, &mut wrapped)
            });
            if let Err(interrupt) = result {
                self.append(output, &wrapped)?;
                return Err(interrupt);
            }
            content = wrapped;
        }
        self.append(output, &content)
    }

    pub(super) fn filter(&mut self, call: &FilterCall, body: &Body, output: &mut TaintedText) -> Outcome<()> {
        let filter = self.prepared_filter(call)?;
        let text = self.written_into(body, output)?;
        let filtered = filter.apply(&text, self)?;
        self.append(output, &filtered)
    }

    /// The filter of a call. An alias stands for a filter with its arguments.
    fn prepared_filter(&mut self, call: &FilterCall) -> Outcome<Filter> {
        let name = self.name(&call.name)?;
        let arguments = self.arguments(Some(&call.arguments))?;
        let known = self.filters.get(name.as_str()).filter(|_| arguments.is_empty()).cloned();
        let filter = match known {
            Some(filter) => filter,
            None => Filter::new(name.as_str(), arguments).ok_or_else(|| {
                ControlFlow::failed(format!("the filter '{}' is not supported", name.to_message()))
            })?,
        };
        if let Some(alias) = &call.alias {
            let alias = self.name(alias)?;
            self.filters.insert(alias.as_str().to_owned(), filter.clone());
        }
        Ok(filter)
    }

    pub(super) fn use_date(&mut self, variable: &Expression, arguments: &Arguments) -> Outcome<()> {
        let name = self.name(variable)?;
        let values = self.arguments(Some(arguments))?;
        let id: HashId = match values.last() {
            Some(Value::Hash(id)) => *id,
            Some(_) | None => self.heap.add_hash(Hash::new()),
        };
        self.set_variable(name.as_str(), Value::Date(id));
        Ok(())
    }
}

/// The value of an argument as text. `None` if it is missing.
pub(in super::super) fn argument_text(arguments: &[Value], number: usize) -> Option<Arc<TaintedText>> {
    arguments.get(number).filter(|value| value.is_defined()).map(Value::to_text)
}
