//! Methods of lists.

use std::collections::BTreeSet;

use super::order;
use crate::handler::page::sanitized::CharacterOrigin;
use crate::handler::page::template::interpreter::{
    ControlFlow, Interpreter, Outcome, argument_text, position,
};
use crate::handler::page::template::number::Number;
use crate::handler::page::template::text::TaintedText;
use crate::handler::page::template::value::{Hash, ListId, Value};

const METHODS: &[&str] = &[
    "item", "list", "hash", "push", "pop", "unshift", "shift", "max", "size", "empty", "defined", "first",
    "last", "reverse", "grep", "join", "sort", "nsort", "unique", "import", "merge", "slice", "splice",
];

/// Items of a part of a list, including missing ones.
const MAX_PART: usize = 1 << 16;

pub(super) fn is_method(name: &str) -> bool {
    METHODS.contains(&name)
}

/// Calls a method. `None` if lists lack it.
pub(in super::super) fn call(
    interpreter: &mut Interpreter<'_>,
    id: ListId,
    name: &str,
    arguments: &[Value],
) -> Outcome<Option<Value>> {
    if !is_method(name) {
        return Ok(None);
    }
    interpreter.spend(arguments.len())?;
    if let Some(value) = read(interpreter, id, name, arguments)? {
        return Ok(Some(value));
    }
    if let Some(value) = change(interpreter, id, name, arguments)? {
        return Ok(Some(value));
    }
    if name == "slice" {
        return slice(interpreter, id, arguments).map(Some);
    }
    let items = interpreter.list_items(id)?;
    let made = match name {
        "hash" => return hash(interpreter, items, arguments).map(Some),
        "join" => return join(interpreter, &items, arguments).map(Some),
        "reverse" => items.into_iter().rev().collect(),
        "grep" => grep(interpreter, items, arguments)?,
        "sort" if items.len() > 1 => {
            spend_keys(interpreter, &items, arguments)?;
            order::by_text(items, |item| {
                keys(interpreter, item, arguments).join("/*^UNLIKELY^*/").to_lowercase()
            })
        }
        "nsort" if items.len() > 1 => {
            spend_keys(interpreter, &items, arguments)?;
            order::by_numbers(items, |item| numbers(interpreter, item, arguments))
        }
        "unique" => {
            order::spend(interpreter, &items)?;
            unique(items)
        }
        "merge" => items.into_iter().chain(lists(interpreter, arguments)?).collect(),
        _ => return Ok(Some(Value::List(id))),
    };
    interpreter.add_list(made).map(Some)
}

/// Methods that return single items or facts about the list.
fn read(
    interpreter: &mut Interpreter<'_>,
    id: ListId,
    name: &str,
    arguments: &[Value],
) -> Outcome<Option<Value>> {
    let items = interpreter.heap.list(id);
    let index = arguments.first().map(|value| value.to_number().as_whole());
    let at = |index: i64| position(index, items.len()).and_then(|at| items.get(at)).cloned();
    let count = Value::count(items.len());
    Ok(Some(match name {
        "item" => at(index.unwrap_or_default()).unwrap_or(Value::Undefined),
        "max" => Value::Number(count.to_number().subtract(Number::Whole(1))),
        "size" => count,
        "empty" => Value::count(usize::from(items.is_empty())),
        "defined" => match arguments.first() {
            None => Value::count(1),
            Some(index) if index.looks_like_number() => {
                Value::truth(at(index.to_number().as_whole()).is_some_and(|item| item.is_defined()))
            }
            Some(_) => Value::Undefined,
        },
        "first" => match index {
            Some(count) => part(interpreter, id, 0, count.max(0))?,
            None => items.first().cloned().unwrap_or(Value::Undefined),
        },
        "last" => match index {
            Some(count) => {
                let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let count = count.clamp(0, length);
                part(interpreter, id, length - count, count)?
            }
            None => items.last().cloned().unwrap_or(Value::Undefined),
        },
        _ => return Ok(None),
    }))
}

/// The items from a position. Empty if there are none.
fn part(interpreter: &mut Interpreter<'_>, id: ListId, from: i64, count: i64) -> Outcome<Value> {
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_PART);
    let count = count.ok_or_else(|| ControlFlow::failed(format!("a list has more than {MAX_PART} items")))?;
    interpreter.spend(count)?;
    let items = interpreter.heap.list(id);
    let item = |at: i64| usize::try_from(at).ok().and_then(|at| items.get(at)).cloned();
    let taken = (0..)
        .take(count)
        .map(|number| item(from.saturating_add(number)).unwrap_or(Value::Undefined))
        .collect();
    interpreter.add_list(taken)
}

/// Methods that change the list itself.
fn change(
    interpreter: &mut Interpreter<'_>,
    id: ListId,
    name: &str,
    arguments: &[Value],
) -> Outcome<Option<Value>> {
    let imported = if name == "import" { lists(interpreter, arguments)? } else { Vec::new() };
    let splice = if name == "splice" { Some(splice_values(interpreter, arguments)?) } else { None };
    if matches!(name, "unshift" | "shift" | "splice") {
        interpreter.spend(interpreter.heap.list(id).len() / 8)?;
    }
    let Some(list) = interpreter.heap.list_mut(id) else { return Ok(None) };
    let taken = match (name, splice) {
        ("push", _) => {
            list.extend(arguments.iter().cloned());
            return Ok(Some(Value::literal("")));
        }
        ("unshift", _) => {
            list.splice(0..0, arguments.iter().cloned());
            return Ok(Some(Value::literal("")));
        }
        ("pop", _) => return Ok(Some(list.pop().unwrap_or(Value::Undefined))),
        ("shift", _) if list.is_empty() => return Ok(Some(Value::Undefined)),
        ("shift", _) => return Ok(Some(list.remove(0))),
        ("import", _) => {
            list.extend(imported);
            return Ok(Some(Value::List(id)));
        }
        (_, Some(values)) => {
            let length = list.len();
            let number = |at: usize| arguments.get(at).map(|value| value.to_number().as_whole());
            let start = position(number(0).unwrap_or_default(), length).unwrap_or_default().min(length);
            let end = match number(1) {
                Some(count) if count < 0 => position(count, length).unwrap_or_default().max(start),
                Some(count) => start.saturating_add(usize::try_from(count).unwrap_or(usize::MAX)).min(length),
                None => length,
            };
            list.splice(start..end, values).collect::<Vec<_>>()
        }
        (_, None) => return Ok(None),
    };
    interpreter.add_list(taken).map(Some)
}

/// The items that `splice` inserts: its further arguments, or the items of one list.
fn splice_values(interpreter: &mut Interpreter<'_>, arguments: &[Value]) -> Outcome<Vec<Value>> {
    match arguments.get(2..).unwrap_or_default() {
        [Value::List(only)] => interpreter.list_items(*only),
        values => Ok(values.to_vec()),
    }
}

/// The defined items of all arguments that are lists.
fn lists(interpreter: &mut Interpreter<'_>, arguments: &[Value]) -> Outcome<Vec<Value>> {
    let mut items = Vec::new();
    for argument in arguments {
        if let Value::List(id) = argument {
            items.extend(interpreter.list_items(*id)?.into_iter().filter(Value::is_defined));
        }
    }
    Ok(items)
}

/// Converts pairs to keys and values. With an argument, the keys are numbers from there.
fn hash(interpreter: &mut Interpreter<'_>, items: Vec<Value>, arguments: &[Value]) -> Outcome<Value> {
    let mut made = Hash::new();
    if let Some(first) = arguments.first() {
        let first = first.to_number().as_whole();
        for (number, item) in (0..).zip(items) {
            let number = Number::Whole(first).add(Number::Whole(number));
            interpreter.insert(&mut made, &TaintedText::literal(&number.to_string()), item)?;
        }
    } else {
        for pair in items.chunks(2) {
            let key = pair.first().map(Value::to_text).unwrap_or_default();
            interpreter.insert(&mut made, &key, pair.get(1).cloned().unwrap_or(Value::Undefined))?;
        }
    }
    Ok(Value::Hash(interpreter.heap.add_hash(made)))
}

/// Joins items. The number of separators may depend on outside text, so in such a list the separators count as
/// outside.
fn join(interpreter: &mut Interpreter<'_>, items: &[Value], arguments: &[Value]) -> Outcome<Value> {
    let joint = argument_text(arguments, 0).unwrap_or_else(|| TaintedText::literal(" ").into());
    let mut text = TaintedText::default();
    let items: Vec<_> = items.iter().map(Value::to_text).collect();
    interpreter.spend(items.iter().map(|item| item.steps()).sum())?;
    let strictest = items.iter().map(|item| item.origin()).max().unwrap_or(CharacterOrigin::Template);
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            interpreter.spend(joint.steps())?;
            text.insert(&joint, strictest);
        }
        interpreter.append(&mut text, item)?;
    }
    interpreter.check_length(text.len())?;
    Ok(Value::text(text))
}

fn grep(interpreter: &mut Interpreter<'_>, items: Vec<Value>, arguments: &[Value]) -> Outcome<Vec<Value>> {
    let pattern = argument_text(arguments, 0).unwrap_or_default();
    let mut kept = Vec::new();
    for item in items {
        if !interpreter.search(pattern.as_str(), item.to_text().as_str(), false)?.is_empty() {
            kept.push(item);
        }
    }
    Ok(kept)
}

fn unique(items: Vec<Value>) -> Vec<Value> {
    let mut known = BTreeSet::new();
    items.into_iter().filter(|item| known.insert(item.to_text().as_str().to_owned())).collect()
}

/// The items between two indices. Negative ones count from the end.
fn slice(interpreter: &mut Interpreter<'_>, id: ListId, arguments: &[Value]) -> Outcome<Value> {
    let length = i64::try_from(interpreter.heap.list(id).len()).unwrap_or(i64::MAX);
    let end = |at: usize, missing: i64| {
        let number = arguments.get(at).filter(|value| value.is_defined());
        let number = number.map_or(missing, |value| value.to_number().as_whole());
        if number < 0 { number.saturating_add(length) } else { number }
    };
    let (from, to) = (end(0, 0), end(1, length - 1));
    let count = to.saturating_sub(from).saturating_add(1);
    part(interpreter, id, from, count.max(0))
}

fn spend_keys(interpreter: &mut Interpreter<'_>, items: &[Value], fields: &[Value]) -> Outcome<()> {
    order::spend(interpreter, items)?;
    for item in items {
        let Value::Hash(id) = item else { continue };
        let value = |field: &Value| interpreter.heap.hash_value(*id, field.to_text().as_str()).cloned();
        let values: Vec<Value> = fields.iter().filter_map(value).collect();
        interpreter.spend(fields.len())?;
        order::spend(interpreter, &values)?;
    }
    Ok(())
}

/// The sort keys of an item: itself, or the named values of a hash.
fn keys(interpreter: &Interpreter<'_>, item: &Value, fields: &[Value]) -> Vec<String> {
    let Value::Hash(id) = item else { return vec![item.to_text().as_str().to_owned()] };
    if fields.is_empty() {
        return vec![item.to_text().as_str().to_owned()];
    }
    let key = |field: &Value| {
        let value = interpreter.heap.hash_value(*id, field.to_text().as_str());
        value.map(|value| value.to_text().as_str().to_owned()).unwrap_or_default()
    };
    fields.iter().map(key).collect()
}

fn numbers(interpreter: &Interpreter<'_>, item: &Value, fields: &[Value]) -> Vec<f64> {
    let number = |text: String| Value::literal(&text).to_number().as_float();
    keys(interpreter, item, fields).into_iter().map(number).collect()
}
