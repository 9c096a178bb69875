//! Resolves names: variables, items of lists and hashes, and methods.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ControlFlow, Interpreter, Outcome};
use crate::handler::page::template::ast::{Element, Expression, Macro, Path};
use crate::handler::page::template::number::Number;
use crate::handler::page::template::text::TaintedText;
use crate::handler::page::template::value::{HashId, ListId, LoopIteration, Value};
use crate::handler::page::template::{date, methods};

/// Variables of the language itself.
const OWN_NAMES: [&str; 5] = ["component", "content", "error", "import", "loop"];
/// Missing names that are recorded.
const MAX_MISSING: usize = 32;

/// Whether templates may neither read nor write a name.
pub(super) fn is_private(name: &str) -> bool {
    name.starts_with(['_', '.'])
}

impl Interpreter<'_> {
    pub(super) fn open_scope(&mut self) {
        self.scopes.push(BTreeMap::new());
    }

    pub(super) fn close_scope(&mut self) {
        self.scopes.pop();
    }

    pub(super) fn set_variable(&mut self, name: &str, value: Value) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.into(), value);
        }
    }

    /// The template's value, otherwise the profile's.
    pub(super) fn variable(&mut self, name: &str) -> Value {
        if let Some(value) = self.scopes.iter().rev().find_map(|scope| scope.get(name)) {
            return value.clone();
        }
        if let Some(value) = self.given.get(name) {
            return value.clone();
        }
        let value = match (self.values)(name) {
            Some(value) => Value::text(TaintedText::from_value(&value)),
            None => Value::Undefined,
        };
        self.given.insert(name.into(), value.clone());
        value
    }

    /// The name of a variable or of an element behind a dot.
    pub(super) fn name(&mut self, name: &Expression) -> Outcome<Arc<TaintedText>> {
        let name = self.evaluate(name)?.to_text();
        self.spend(name.len() / 64 + self.scopes.len() / 4)?;
        Ok(name)
    }

    /// Imports a hash: its keys become variables.
    pub(super) fn import(&mut self, id: HashId) -> Outcome<()> {
        for entry in self.entries(id)? {
            self.spend(entry.key.len() / 64)?;
            self.set_variable(entry.key.as_str(), entry.value);
        }
        Ok(())
    }

    /// The value of `a.b(c).d`. An undefined value is an empty text.
    pub(super) fn read(&mut self, path: &Path) -> Outcome<Value> {
        let mut value = match path.as_slice() {
            [only] => return self.read_single(only),
            [first, ..] => self.read_root(first)?,
            [] => Value::Undefined,
        };
        for element in path.iter().skip(1) {
            if !value.is_defined() {
                break;
            }
            let name = self.evaluate(&element.name)?;
            let arguments = self.arguments(element.arguments.as_ref())?;
            value = self.item(&value, &name, arguments)?;
        }
        Ok(if value.is_defined() { value } else { Value::literal("") })
    }

    /// Resolves a computed name with dots (`${'a.b'}`) like `a.b`.
    fn read_single(&mut self, element: &Element) -> Outcome<Value> {
        let is_fixed = matches!(element.name, Expression::Literal(_)) || element.arguments.is_some();
        let mut value = if is_fixed {
            self.read_root(element)?
        } else {
            let name = self.name(&element.name)?;
            let mut names = name.as_str().split('.');
            let mut value = self.root_item(names.next().unwrap_or_default(), Vec::new())?;
            for name in names {
                if value.is_defined() {
                    value = self.item(&value, &Value::literal(name), Vec::new())?;
                }
            }
            value
        };
        if !value.is_defined() {
            value = Value::literal("");
        }
        Ok(value)
    }

    fn read_root(&mut self, element: &Element) -> Outcome<Value> {
        let name = self.name(&element.name)?;
        let arguments = self.arguments(element.arguments.as_ref())?;
        self.root_item(name.as_str(), arguments)
    }

    fn root_item(&mut self, name: &str, arguments: Vec<Value>) -> Outcome<Value> {
        if is_private(name) {
            return Ok(Value::Undefined);
        }
        match (self.variable(name), arguments.first()) {
            (Value::Macro(definition), _) => self.call_macro(&definition, arguments),
            (Value::Undefined, Some(Value::Hash(id))) if name == "import" => {
                self.import(*id)?;
                Ok(Value::literal(""))
            }
            (Value::Undefined, Some(number)) if name == "inc" || name == "dec" => {
                let step = Number::Whole(if name == "inc" { 1 } else { -1 });
                Ok(Value::Number(number.to_number().add(step)))
            }
            (Value::Undefined, _) => {
                self.note_missing(name);
                Ok(Value::Undefined)
            }
            (value, _) => Ok(value),
        }
    }

    fn note_missing(&mut self, name: &str) {
        let is_known = self.program.assigned.contains(name) || OWN_NAMES.contains(&name);
        if !is_known && self.missing.len() < MAX_MISSING {
            self.missing.insert(name.to_owned());
        }
    }

    /// Resolves the element behind a dot.
    fn item(&mut self, value: &Value, name: &Value, arguments: Vec<Value>) -> Outcome<Value> {
        let text = name.to_text();
        self.spend(1 + text.len() / 64)?;
        if is_private(text.as_str()) {
            return Ok(Value::Undefined);
        }
        match value {
            Value::Hash(id) => self.hash_item(*id, name, &text, arguments),
            Value::List(id) => self.list_item(*id, name, &text, &arguments),
            Value::Text(_) | Value::Number(_) => methods::of_text(self, value, text.as_str(), &arguments),
            Value::Iterator(iteration) => self.iterator_item(iteration, text.as_str()),
            Value::Date(id) => date::call(self, *id, text.as_str(), &arguments),
            Value::Error(error) => Ok(match text.as_str() {
                "type" => Value::text(error.kind.clone()),
                "info" => error.info.clone(),
                "as_string" => Value::Text(value.to_text()),
                _ => Value::Undefined,
            }),
            Value::Macro(_) | Value::Undefined => Ok(Value::Undefined),
        }
    }

    fn hash_item(
        &mut self,
        id: HashId,
        name: &Value,
        text: &TaintedText,
        arguments: Vec<Value>,
    ) -> Outcome<Value> {
        if let Some(value) = self.heap.hash_value(id, text.as_str()).cloned() {
            if let Value::Macro(definition) = value {
                return self.call_macro(&definition, arguments);
            }
            return Ok(value);
        }
        if let Value::List(keys) = name {
            let keys = self.list_items(*keys)?;
            self.spend_texts(&keys)?;
            let values = keys.iter().filter_map(|key| {
                let hash = self.heap.hash(id)?;
                Some(hash.get(key.to_text().as_str())?.value.clone())
            });
            let values = values.collect();
            return self.add_list(values);
        }
        methods::of_hash(self, id, text.as_str(), &arguments)
    }

    fn list_item(
        &mut self,
        id: ListId,
        name: &Value,
        text: &TaintedText,
        arguments: &[Value],
    ) -> Outcome<Value> {
        if let Some(value) = methods::of_list(self, id, text.as_str(), arguments)? {
            return Ok(value);
        }
        if let Value::List(indexes) = name {
            let indexes = self.list_items(*indexes)?;
            let numbers = indexes.iter().filter(|index| index.looks_like_number());
            let values = numbers.filter_map(|index| self.list_value(id, index)).collect();
            return self.add_list(values);
        }
        let value = if name.looks_like_number() { self.list_value(id, name) } else { None };
        Ok(value.unwrap_or(Value::Undefined))
    }

    /// An item of a list. A negative index counts from the end.
    fn list_value(&self, id: ListId, index: &Value) -> Option<Value> {
        let list = self.heap.list(id);
        list.get(position(index.to_number().as_whole(), list.len())?).cloned()
    }

    fn iterator_item(&self, iteration: &LoopIteration, name: &str) -> Outcome<Value> {
        let index = iteration.index.get();
        let count = index + 1;
        let at = |index: Option<usize>| {
            let item = index.and_then(|index| self.heap.list(iteration.list).get(index));
            item.cloned().unwrap_or(Value::Undefined)
        };
        let flag = |holds: bool| Value::count(usize::from(holds));
        Ok(match name {
            "size" => Value::count(iteration.size),
            "max" => Value::count(iteration.size.saturating_sub(1)),
            "index" => Value::count(index),
            "count" | "number" => Value::count(count),
            "first" => flag(index == 0),
            "last" => flag(count == iteration.size),
            "prev" => at(index.checked_sub(1)),
            "next" => at(Some(count)),
            "odd" => flag(!count.is_multiple_of(2)),
            "even" => flag(count.is_multiple_of(2)),
            "parity" => Value::literal(if count.is_multiple_of(2) { "even" } else { "odd" }),
            "get_first" | "get_next" | "get_all" => {
                return Err(ControlFlow::failed(format!("'loop.{name}' is not supported")));
            }
            _ => Value::Undefined,
        })
    }

    /// Calls a macro. Its parameters are its own variables. A hash as the last argument sets them by name.
    fn call_macro(&mut self, definition: &Arc<Macro>, arguments: Vec<Value>) -> Outcome<Value> {
        let mut given = arguments.into_iter();
        let mut variables = BTreeMap::new();
        for name in definition.parameters.iter().flatten() {
            variables.insert(name.as_str().into(), given.next().unwrap_or(Value::Undefined));
        }
        if let Some(Value::Hash(id)) = given.next() {
            self.spend(self.heap.hash(id).map_or(0, BTreeMap::len))?;
            let named = self.heap.hash(id).into_iter().flatten();
            variables.extend(named.map(|(name, entry)| (Arc::clone(name), entry.value.clone())));
        }
        self.scopes.push(variables);
        let written = self.written(&definition.body);
        self.scopes.pop();
        written.map(Value::text)
    }
}

/// The index of an item in a list. A negative index counts from the end.
pub(in super::super) fn position(index: i64, length: usize) -> Option<usize> {
    if index >= 0 {
        return usize::try_from(index).ok();
    }
    length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)
}
