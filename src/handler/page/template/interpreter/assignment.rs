//! Assignments.

use super::variable::{is_private, position};
use super::{ControlFlow, Interpreter, Outcome};
use crate::handler::page::template::ast::{Assignment, Element, Path};
use crate::handler::page::template::text::TaintedText;
use crate::handler::page::template::value::{Hash, HashId, ListId, Value};

/// Longest list that grows by an assignment beyond its end.
const MAX_LIST_ITEMS: usize = 1 << 16;

impl Interpreter<'_> {
    pub(super) fn assign_all(&mut self, assignments: &[Assignment], is_default: bool) -> Outcome<()> {
        for assignment in assignments {
            let value = self.evaluate(&assignment.value)?;
            self.assign(&assignment.target, value, is_default)?;
        }
        Ok(())
    }

    /// Assigns and returns the value, or an empty text if nothing was assigned. A default keeps a value that is true.
    pub(super) fn assign(&mut self, target: &Path, value: Value, is_default: bool) -> Outcome<Value> {
        let Some((last, parents)) = target.split_last() else { return Ok(Value::literal("")) };
        let name = self.name(&last.name)?;
        if is_private(name.as_str()) {
            return Ok(Value::literal(""));
        }
        let root = match parents.split_first() {
            None => return Ok(self.assign_variable(&name, value, is_default)),
            Some((first, rest)) => self.parent(first, rest)?,
        };
        match root {
            Value::Hash(id) => {
                let is_set = self.heap.hash_value(id, name.as_str()).is_some_and(Value::is_true);
                if is_default && is_set {
                    return Ok(Value::literal(""));
                }
                self.set_entry(id, &name, value.clone())?;
                Ok(value)
            }
            Value::List(id) if Value::Text(name.clone()).looks_like_number() => {
                let index = Value::Text(name).to_number().as_whole();
                self.assign_item(id, index, value, is_default)
            }
            Value::Date(_) | Value::Iterator(_) | Value::Error(_) => {
                Err(ControlFlow::failed("a value of the language's own cannot be set"))
            }
            Value::List(_) | Value::Undefined | Value::Number(_) | Value::Text(_) | Value::Macro(_) => {
                Ok(Value::literal(""))
            }
        }
    }

    fn assign_variable(&mut self, name: &TaintedText, value: Value, is_default: bool) -> Value {
        if is_default && self.variable(name.as_str()).is_true() {
            return Value::literal("");
        }
        self.set_variable(name.as_str(), value.clone());
        value
    }

    fn assign_item(&mut self, id: ListId, index: i64, value: Value, is_default: bool) -> Outcome<Value> {
        let length = self.heap.list(id).len();
        let Some(index) = position(index, length).filter(|index| *index < MAX_LIST_ITEMS) else {
            return Err(ControlFlow::failed("the list has no such item"));
        };
        let is_set = self.heap.list(id).get(index).is_some_and(Value::is_true);
        if is_default && is_set {
            return Ok(Value::literal(""));
        }
        self.spend(index.saturating_sub(length))?;
        if let Some(list) = self.heap.list_mut(id) {
            if list.len() <= index {
                list.resize(index + 1, Value::Undefined);
            }
            if let Some(item) = list.get_mut(index) {
                *item = value.clone();
            }
        }
        Ok(value)
    }

    /// The parent of the last element. Missing parents become hashes.
    fn parent(&mut self, first: &Element, rest: &[Element]) -> Outcome<Value> {
        let name = self.name(&first.name)?;
        if is_private(name.as_str()) {
            return Ok(Value::Undefined);
        }
        let mut value = self.variable(name.as_str());
        if !value.is_defined() {
            value = Value::Hash(self.heap.add_hash(Hash::new()));
            self.set_variable(name.as_str(), value.clone());
        }
        for element in rest {
            let name = self.name(&element.name)?;
            if is_private(name.as_str()) {
                return Ok(Value::Undefined);
            }
            value = self.child(&value, &name)?;
        }
        Ok(value)
    }

    fn set_entry(&mut self, id: HashId, key: &TaintedText, value: Value) -> Outcome<()> {
        let entry = self.entry(key, value)?;
        if let Some(hash) = self.heap.hash_mut(id) {
            hash.insert(key.as_str().into(), entry);
        }
        Ok(())
    }

    fn child(&mut self, value: &Value, name: &TaintedText) -> Outcome<Value> {
        self.spend(1)?;
        match value {
            Value::Hash(id) => {
                if let Some(known) = self.heap.hash_value(*id, name.as_str()) {
                    return Ok(known.clone());
                }
                let made = Value::Hash(self.heap.add_hash(Hash::new()));
                self.set_entry(*id, name, made.clone())?;
                Ok(made)
            }
            Value::List(id) => {
                let list = self.heap.list(*id);
                let index = Value::text(name.clone()).to_number().as_whole();
                let item = position(index, list.len()).and_then(|index| list.get(index));
                Ok(item.cloned().unwrap_or(Value::Undefined))
            }
            Value::Undefined
            | Value::Number(_)
            | Value::Text(_)
            | Value::Iterator(_)
            | Value::Date(_)
            | Value::Macro(_)
            | Value::Error(_) => Ok(Value::Undefined),
        }
    }
}
