//! Methods of hashes. Wherever Perl's order is random, keys are sorted here.

use super::order;
use crate::handler::page::template::interpreter::{Interpreter, Outcome, argument_text};
use crate::handler::page::template::value::{Entry, HashId, Value};

/// Nothing where a hash has no such method.
pub(super) fn call(
    interpreter: &mut Interpreter<'_>,
    id: HashId,
    name: &str,
    arguments: &[Value],
) -> Outcome<Option<Value>> {
    let entries: Vec<Entry> =
        interpreter.heap.hash(id).into_iter().flat_map(|hash| hash.values().cloned()).collect();
    interpreter.spend(entries.len())?;
    let keys = || entries.iter().map(|entry| Value::text(entry.key.clone())).collect::<Vec<_>>();
    let values = || entries.iter().map(|entry| entry.value.clone()).collect::<Vec<_>>();
    let both = || {
        let pair = |entry: &Entry| [Value::text(entry.key.clone()), entry.value.clone()];
        entries.iter().flat_map(pair).collect::<Vec<_>>()
    };
    let flag = |holds: bool| Value::count(usize::from(holds));
    let first = argument_text(arguments, 0);
    let key = first.as_ref().map_or("", |text| text.as_str());
    Ok(Some(match name {
        "item" => interpreter.heap.hash_value(id, key).cloned().unwrap_or(Value::Undefined),
        "hash" => Value::Hash(id),
        "size" => Value::count(entries.len()),
        "empty" => flag(entries.is_empty()),
        "each" | "items" => interpreter.heap.add_list(both()),
        "keys" => interpreter.heap.add_list(keys()),
        "values" => interpreter.heap.add_list(values()),
        "pairs" => pairs(interpreter, id),
        "list" => match key {
            "keys" => interpreter.heap.add_list(keys()),
            "values" => interpreter.heap.add_list(values()),
            "each" => interpreter.heap.add_list(both()),
            _ => pairs(interpreter, id),
        },
        "exists" => Value::truth(interpreter.heap.hash(id).is_some_and(|hash| hash.contains_key(key))),
        "defined" if first.is_none() => flag(true),
        "defined" => Value::truth(interpreter.heap.hash_value(id, key).is_some()),
        "delete" => delete(interpreter, id, arguments),
        "import" => import(interpreter, id, arguments)?,
        "sort" => {
            let text = |key: &Value| {
                let value = interpreter.heap.hash_value(id, key.to_text().as_str());
                value.map(|value| value.to_text().as_str().to_lowercase()).unwrap_or_default()
            };
            let sorted = order::by_text(keys(), text);
            interpreter.heap.add_list(sorted)
        }
        "nsort" => {
            let number = |key: &Value| {
                let value = interpreter.heap.hash_value(id, key.to_text().as_str());
                value.map_or(0.0, |value| value.to_number().as_float())
            };
            let sorted = order::by_number(keys(), number);
            interpreter.heap.add_list(sorted)
        }
        _ => return Ok(None),
    }))
}

fn pairs(interpreter: &mut Interpreter<'_>, id: HashId) -> Value {
    let pairs = interpreter.pairs(id);
    interpreter.heap.add_list(pairs)
}

fn delete(interpreter: &mut Interpreter<'_>, id: HashId, arguments: &[Value]) -> Value {
    if let Some(hash) = interpreter.heap.hash_mut(id) {
        for key in arguments {
            hash.remove(key.to_text().as_str());
        }
    }
    Value::literal("")
}

fn import(interpreter: &mut Interpreter<'_>, id: HashId, arguments: &[Value]) -> Outcome<Value> {
    let other = match arguments.first() {
        Some(Value::Hash(other)) => interpreter.heap.hash(*other).cloned().unwrap_or_default(),
        _ => return Ok(Value::literal("")),
    };
    interpreter.spend(other.len())?;
    if let Some(hash) = interpreter.heap.hash_mut(id) {
        hash.extend(other);
    }
    Ok(Value::literal(""))
}
