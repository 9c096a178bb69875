//! The methods of texts, lists and hashes.

mod hash;
mod list;
mod order;
mod text;

pub(super) use self::list::call as of_list;
use super::interpreter::{Interpreter, Outcome};
use super::value::{HashId, Value};

/// Calls a method of a text: its own, or that of a list with this text.
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

/// Calls a method of a hash: its own, or that of a list with this hash.
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
