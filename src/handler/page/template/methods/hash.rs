//! Methods of hashes. Keys are sorted, because Perl's order is random.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::order;
use crate::handler::page::template::interpreter::{Interpreter, Outcome, argument_text};
use crate::handler::page::template::value::{Entry, HashId, ListId, Value};

/// Calls a method. `None` if hashes lack it.
pub(super) fn call(
    interpreter: &mut Interpreter<'_>,
    id: HashId,
    name: &str,
    arguments: &[Value],
) -> Outcome<Option<Value>> {
    let flag = |holds: bool| Value::count(usize::from(holds));
    let first = argument_text(arguments, 0);
    let key = first.as_ref().map_or("", |text| text.as_str());
    interpreter.spend(key.len() / 64)?;
    Ok(Some(match name {
        "item" => interpreter.heap.hash_value(id, key).cloned().unwrap_or(Value::Undefined),
        "hash" => Value::Hash(id),
        "size" => Value::count(interpreter.heap.hash(id).map_or(0, BTreeMap::len)),
        "empty" => flag(interpreter.heap.hash(id).is_none_or(BTreeMap::is_empty)),
        "exists" => Value::truth(interpreter.heap.hash(id).is_some_and(|hash| hash.contains_key(key))),
        "defined" if first.is_none() => flag(true),
        "defined" => Value::truth(interpreter.heap.hash_value(id, key).is_some()),
        "delete" => delete(interpreter, id, arguments)?,
        "import" => import(interpreter, id, arguments)?,
        "keys" | "values" | "each" | "items" | "pairs" | "sort" | "nsort" => {
            list(interpreter, id, name).map(Value::List)?
        }
        "list" => list(interpreter, id, key).map(Value::List)?,
        _ => return Ok(None),
    }))
}

/// Keys, values, or both. The default is pairs.
fn list(interpreter: &mut Interpreter<'_>, id: HashId, what: &str) -> Outcome<ListId> {
    let entries = interpreter.entries(id)?;
    let values = || entries.iter().map(|entry| entry.value.clone()).collect::<Vec<_>>();
    let keys = |entries: &[Entry]| {
        entries.iter().map(|entry| Value::Text(Arc::clone(&entry.key))).collect::<Vec<_>>()
    };
    let items = match what {
        "keys" => keys(&entries),
        "values" => values(),
        "each" | "items" => {
            let pair = |entry: &Entry| [Value::Text(Arc::clone(&entry.key)), entry.value.clone()];
            entries.iter().flat_map(pair).collect()
        }
        "sort" => {
            order::spend(interpreter, &values())?;
            keys(&order::by_text(entries, |entry| entry.value.to_text().as_str().to_lowercase()))
        }
        "nsort" => {
            order::spend(interpreter, &values())?;
            keys(&order::by_number(entries, |entry| entry.value.to_number().as_float()))
        }
        _ => interpreter.pairs(id)?,
    };
    interpreter.add_list_id(items)
}

fn delete(interpreter: &mut Interpreter<'_>, id: HashId, arguments: &[Value]) -> Outcome<Value> {
    interpreter.spend(arguments.len())?;
    interpreter.spend_texts(arguments)?;
    if let Some(hash) = interpreter.heap.hash_mut(id) {
        for key in arguments {
            hash.remove(key.to_text().as_str());
        }
    }
    Ok(Value::literal(""))
}

fn import(interpreter: &mut Interpreter<'_>, id: HashId, arguments: &[Value]) -> Outcome<Value> {
    let Some(Value::Hash(other)) = arguments.first() else { return Ok(Value::literal("")) };
    interpreter.spend(2 * interpreter.heap.hash(*other).map_or(0, BTreeMap::len))?;
    let other = interpreter.heap.hash(*other).cloned().unwrap_or_default();
    if let Some(hash) = interpreter.heap.hash_mut(id) {
        hash.extend(other);
    }
    Ok(Value::literal(""))
}
