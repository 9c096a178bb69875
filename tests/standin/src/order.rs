//! The random order that Perl gives to the keys of hashes, and so to JSON objects and to lists made from hashes.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};

use serde_json::Value;

/// Compact JSON; the keys of each object come in an order of this call's own.
pub(crate) fn json_text(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), json_text(value)));
            format!("{{{}}}", shuffled(fields.collect()).join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(json_text).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// The items of a list that the original makes from a hash.
pub(crate) fn shuffled_list(mut value: Value) -> Value {
    if let Some(items) = value.as_array_mut() {
        *items = shuffled(std::mem::take(items));
    }
    value
}

/// Fisher and Yates.
pub(crate) fn shuffled<T>(mut items: Vec<T>) -> Vec<T> {
    for last in (1..items.len()).rev() {
        items.swap(last, random(last + 1));
    }
    items
}

fn random(below: usize) -> usize {
    thread_local! {
        static COUNT: Cell<u64> = const { Cell::new(0) };
        static STATE: RandomState = RandomState::new();
    }
    let count = COUNT.replace(COUNT.get() + 1);
    let hash = STATE.with(|state| state.hash_one(count));
    usize::try_from(hash % u64::try_from(below).unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_keeps_value_not_order() {
        let value = serde_json::json!({"a": [1, {"x": "\"", "y": null}], "b": 2.5, "c": true});
        let texts: Vec<String> = (0..50).map(|_| json_text(&value)).collect();
        for text in &texts {
            assert_eq!(serde_json::from_str::<Value>(text).unwrap(), value);
        }
        assert!(texts.iter().any(|text| *text != texts[0]));
    }
}
