//! The methods of texts, lists and hashes.

mod hash;
mod list;
mod order;
mod text;

use super::interpreter::{Interpreter, Outcome};
use super::value::{HashId, ListId, Value};

/// A text has its own methods, and those of a list of itself.
pub(super) fn of_text(
    interpreter: &mut Interpreter<'_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Outcome<Value> {
    if let Some(result) = text::call(interpreter, &value.to_text(), name, arguments)? {
        return Ok(result);
    }
    of_single(interpreter, value, name, arguments)
}

/// A hash has its own methods, and those of a list of itself.
pub(super) fn of_hash(
    interpreter: &mut Interpreter<'_>,
    id: HashId,
    name: &str,
    arguments: &[Value],
) -> Outcome<Value> {
    if let Some(result) = hash::call(interpreter, id, name, arguments)? {
        return Ok(result);
    }
    of_single(interpreter, &Value::Hash(id), name, arguments)
}

/// Nothing where a list has no such method.
pub(super) fn of_list(
    interpreter: &mut Interpreter<'_>,
    id: ListId,
    name: &str,
    arguments: &[Value],
) -> Outcome<Option<Value>> {
    list::call(interpreter, id, name, arguments)
}

fn of_single(
    interpreter: &mut Interpreter<'_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Outcome<Value> {
    if !list::is_method(name) {
        return Ok(Value::Undefined);
    }
    let id = interpreter.add_list_id(vec![value.clone()])?;
    Ok(list::call(interpreter, id, name, arguments)?.unwrap_or(Value::Undefined))
}
