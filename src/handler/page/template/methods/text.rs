//! Methods of texts.

use std::sync::Arc;

use crate::handler::page::template::filters;
use crate::handler::page::template::interpreter::{Interpreter, Outcome, argument_text};
use crate::handler::page::template::pattern::{PatternMatch, names_groups};
use crate::handler::page::template::text::TaintedText;
use crate::handler::page::template::value::Value;

/// Calls a method. `None` if texts lack it.
pub(super) fn call(
    interpreter: &mut Interpreter<'_>,
    text: &Arc<TaintedText>,
    name: &str,
    arguments: &[Value],
) -> Outcome<Option<Value>> {
    let whole = || Value::Text(Arc::clone(text));
    let is_free = matches!(name, "item" | "list" | "hash" | "size" | "defined" | "empty");
    if !is_free {
        interpreter.spend(text.steps())?;
    }
    let value = match name {
        "item" => whole(),
        "list" => interpreter.add_list(vec![whole()])?,
        "hash" => interpreter.heap.add_pairs(vec![("value", whole())]),
        "length" => Value::count(text.as_str().chars().count()),
        "size" | "defined" => Value::count(1),
        "empty" => Value::count(usize::from(text.is_empty())),
        "upper" | "lower" | "ucfirst" | "lcfirst" | "trim" | "collapse" | "html" | "xml" => {
            Value::text(filters::simple(name, text).unwrap_or_default())
        }
        "squote" => Value::text(text.map(|piece| piece.replace('\\', "\\\\").replace('\'', "\\'"))),
        "dquote" => Value::text(
            text.map(|piece| piece.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")),
        ),
        "repeat" => repeat(interpreter, text, arguments)?,
        "match" => matched(interpreter, text, arguments)?,
        "search" => match argument_text(arguments, 0) {
            Some(pattern) => {
                let found = interpreter.search(pattern.as_str(), text.as_str(), false)?;
                Value::truth(!found.is_empty())
            }
            None => whole(),
        },
        "replace" => replace(interpreter, text, arguments)?,
        "remove" => match argument_text(arguments, 0) {
            Some(pattern) => {
                let replaced =
                    interpreter.replace(text, pattern.as_str(), &TaintedText::default(), true, false)?;
                Value::text(replaced)
            }
            None => whole(),
        },
        "split" => split(interpreter, text, arguments)?,
        "chunk" => chunk(interpreter, text, arguments)?,
        "substr" => substring(text, arguments),
        _ => return Ok(None),
    };
    if let Value::Text(made) = &value
        && !is_free
    {
        interpreter.spend_text(made)?;
    }
    Ok(Some(value))
}

fn number(arguments: &[Value], at: usize) -> Option<i64> {
    arguments.get(at).filter(|value| value.is_defined()).map(|value| value.to_number().as_whole())
}

fn repeat(interpreter: &mut Interpreter<'_>, text: &TaintedText, arguments: &[Value]) -> Outcome<Value> {
    let count = usize::try_from(number(arguments, 0).unwrap_or_default()).unwrap_or_default();
    filters::repeated(interpreter, text, count).map(Value::text)
}

/// `match`: the groups, or 1 if the pattern has none. An empty text without a match.
fn matched(
    interpreter: &mut Interpreter<'_>,
    text: &Arc<TaintedText>,
    arguments: &[Value],
) -> Outcome<Value> {
    let Some(pattern) = argument_text(arguments, 0) else { return Ok(Value::Text(Arc::clone(text))) };
    let is_global = arguments.get(1).is_some_and(Value::is_true);
    let found = interpreter.search(pattern.as_str(), text.as_str(), is_global)?;
    if found.is_empty() {
        return Ok(Value::literal(""));
    }
    let mut items = Vec::new();
    spend_parts(interpreter, &found, text)?;
    for place in found {
        if place.groups.is_empty() {
            items.push(if is_global { Value::text(text.slice(place.whole)) } else { Value::count(1) });
        }
        for group in place.groups {
            items.push(group.map_or(Value::Undefined, |group| Value::text(text.slice(group))));
        }
    }
    interpreter.add_list(items)
}

fn replace(interpreter: &mut Interpreter<'_>, text: &TaintedText, arguments: &[Value]) -> Outcome<Value> {
    let pattern = argument_text(arguments, 0).unwrap_or_default();
    let replacement = argument_text(arguments, 1).unwrap_or_default();
    let is_global = arguments.get(2).is_none_or(|value| !value.is_defined() || value.is_true());
    let has_groups = names_groups(replacement.as_str());
    let replaced = interpreter.replace(text, pattern.as_str(), &replacement, is_global, has_groups)?;
    Ok(Value::text(replaced))
}

/// `split` with Perl's semantics: the default pattern is white space, and empty parts at the end are dropped.
fn split(interpreter: &mut Interpreter<'_>, text: &TaintedText, arguments: &[Value]) -> Outcome<Value> {
    let limit = number(arguments, 1).unwrap_or_default();
    let most = usize::try_from(limit).ok().filter(|most| *most > 0);
    let pattern = argument_text(arguments, 0);
    let (start, pattern) = match &pattern {
        Some(pattern) => (0, pattern.as_str()),
        None => (text.len() - text.as_str().trim_start().len(), r"\s+"),
    };
    let rest = text.slice(start..text.len());
    let pattern = if pattern == "^" { "(?m)^" } else { pattern };
    let found =
        if rest.is_empty() { Vec::new() } else { interpreter.search(pattern, rest.as_str(), true)? };
    let mut parts = Vec::new();
    let mut from = 0;
    spend_parts(interpreter, &found, text)?;
    for place in found {
        if most.is_some_and(|most| parts.len() + 1 >= most) {
            break;
        }
        let is_empty = place.whole.is_empty();
        if is_empty && (place.whole.start == from || place.whole.end == rest.len()) {
            continue;
        }
        parts.push(Value::text(rest.slice(from..place.whole.start)));
        for group in place.groups {
            parts.push(group.map_or(Value::Undefined, |group| Value::text(rest.slice(group))));
        }
        from = place.whole.end;
    }
    if !rest.is_empty() {
        parts.push(Value::text(rest.slice(from..rest.len())));
    }
    if limit == 0 {
        while parts.pop_if(|part| part.to_text().is_empty()).is_some() {}
    }
    interpreter.add_list(parts)
}

/// Spends the steps of the matches and the parts between them.
fn spend_parts(interpreter: &mut Interpreter<'_>, found: &[PatternMatch], text: &TaintedText) -> Outcome<()> {
    interpreter.spend(text.steps())?;
    for place in found {
        let groups = place.groups.iter().flatten().map(|group| 2 + group.len() / 16).sum::<usize>();
        interpreter.spend(2 + groups)?;
    }
    Ok(())
}

/// `chunk`: parts of a length. A negative one counts from the end. Line ends belong to no part.
fn chunk(interpreter: &mut Interpreter<'_>, text: &TaintedText, arguments: &[Value]) -> Outcome<Value> {
    let size = number(arguments, 0).filter(|size| *size != 0).unwrap_or(1);
    let length = usize::try_from(size.unsigned_abs()).unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    let mut start = 0;
    interpreter.spend(text.steps() + text.len() / 8 + 2 * text.len() / length)?;
    for line in text.as_str().split('\n') {
        let bounds: Vec<usize> =
            line.char_indices().map(|(at, _)| start + at).chain([start + line.len()]).collect();
        let count = bounds.len() - 1;
        let first = if size < 0 && count > 0 { count % length } else { 0 };
        let mut from = 0;
        let mut to = if first > 0 { first } else { length.min(count) };
        while from < count {
            if let (Some(start), Some(end)) = (bounds.get(from), bounds.get(to)) {
                parts.push(Value::text(text.slice(*start..*end)));
            }
            from = to;
            to = from.saturating_add(length).min(count);
        }
        start += line.len() + 1;
    }
    interpreter.add_list(parts)
}

/// `substr` with Perl's semantics: negative numbers count from the end, and a third argument replaces the part.
fn substring(text: &TaintedText, arguments: &[Value]) -> Value {
    let length = i64::try_from(text.as_str().chars().count()).unwrap_or(i64::MAX);
    let offset = number(arguments, 0).unwrap_or_default();
    let start = if offset < 0 { length.saturating_add(offset) } else { offset };
    let end = match number(arguments, 1) {
        Some(size) if size < 0 => length.saturating_add(size),
        Some(size) => start.saturating_add(size),
        None => length,
    };
    if start > length || (start < 0 && end < 0) {
        return Value::Undefined;
    }
    let at = |number: i64| text.position(usize::try_from(number.clamp(0, length)).unwrap_or_default());
    let range = at(start)..at(end.max(start));
    let Some(replacement) = argument_text(arguments, 2) else { return Value::text(text.slice(range)) };
    let origin = text.origin_around(&range);
    let mut replaced = text.slice(0..range.start);
    replaced.insert(&replacement, origin);
    replaced.push_text(&text.slice(range.end..text.len()));
    Value::text(replaced)
}
