//! The differences of two JSON values, as paths and values. The order of keys does not count. That of a list counts
//! unless the profile lists it as made from a hash.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value};

/// Limit of differences of one answer.
const MAX_DIFFERENCES: usize = 1000;

/// A path at which two answers differ; `None` if one has no value there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ValueDifference {
    pub(crate) path: String,
    pub(crate) original: Option<Value>,
    pub(crate) ours: Option<Value>,
}

/// The lists of an answer that have no order: `data`, `data[].roles`.
pub(crate) type UnorderedLists = BTreeSet<String>;

/// Every difference, in the order of the paths.
pub(crate) fn differences(
    original: &Value,
    ours: &Value,
    unordered: &UnorderedLists,
) -> Vec<ValueDifference> {
    let mut comparison = StructureComparison { unordered, found: Vec::new() };
    comparison.values(&ValuePath::default(), original, ours);
    comparison.found
}

/// The path of the value that is being compared.
#[derive(Clone, Default)]
struct ValuePath {
    /// `data[3].name`
    path: String,
    /// the same as a profile writes it: `data[].name`
    pattern: String,
}

struct StructureComparison<'a> {
    unordered: &'a UnorderedLists,
    found: Vec<ValueDifference>,
}

impl ValuePath {
    fn field(&self, name: &str) -> Self {
        let join = |path: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        Self { path: join(&self.path), pattern: join(&self.pattern) }
    }

    fn item(&self, label: &str) -> Self {
        Self { path: format!("{}[{label}]", self.path), pattern: format!("{}[]", self.pattern) }
    }
}

impl StructureComparison<'_> {
    fn values(&mut self, place: &ValuePath, original: &Value, ours: &Value) {
        match (original, ours) {
            (Value::Object(original), Value::Object(ours)) => self.objects(place, original, ours),
            (Value::Array(original), Value::Array(ours)) if self.unordered.contains(&place.pattern) => {
                self.sets(place, original, ours);
            }
            (Value::Array(original), Value::Array(ours)) => self.lists(place, original, ours),
            (original, ours) if original == ours => (),
            (original, ours) => self.note(place, Some(original), Some(ours)),
        }
    }

    fn objects(&mut self, place: &ValuePath, original: &Map<String, Value>, ours: &Map<String, Value>) {
        let names: BTreeSet<&String> = original.keys().chain(ours.keys()).collect();
        for name in names {
            self.either(&place.field(name), original.get(name), ours.get(name));
        }
    }

    fn lists(&mut self, place: &ValuePath, original: &[Value], ours: &[Value]) {
        for index in 0..original.len().max(ours.len()) {
            self.either(&place.item(&index.to_string()), original.get(index), ours.get(index));
        }
    }

    /// Equal items cancel out. The others are paired by the field that names them.
    fn sets(&mut self, place: &ValuePath, original: &[Value], ours: &[Value]) {
        let pattern = format!("{}[]", place.pattern);
        let key = naming_field(original, ours);
        let (original, ours) = self.unequal(&pattern, original, ours);
        let Some(key) = key else {
            let unpaired = |items: &[&Value]| items.iter().map(|item| (*item).clone()).collect::<Vec<_>>();
            let (original, ours) = (unpaired(&original), unpaired(&ours));
            self.lists(place, &original, &ours);
            return;
        };
        let by_name = |items: &[&Value]| -> BTreeMap<String, Value> {
            items.iter().filter_map(|item| Some((name_of(item.get(&key)?)?, (*item).clone()))).collect()
        };
        let (original, ours) = (by_name(&original), by_name(&ours));
        for name in original.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
            let place = place.item(&format!("{key}={name}"));
            self.either(&place, original.get(name), ours.get(name));
        }
    }

    /// The items of either list that have no equal in the other.
    fn unequal<'v>(
        &self,
        pattern: &str,
        original: &'v [Value],
        ours: &'v [Value],
    ) -> (Vec<&'v Value>, Vec<&'v Value>) {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for item in ours {
            *counts.entry(self.canonical(pattern, item)).or_default() += 1;
        }
        let mut take = |item: &Value| {
            let count = counts.get_mut(&self.canonical(pattern, item)).filter(|count| **count > 0);
            count.map(|count| *count -= 1).is_some()
        };
        let left: Vec<_> = original.iter().filter(|item| !take(item)).collect();
        // The rest of each count is missing in the original.
        let right = ours.iter().filter(|item| take(item)).collect();
        (left, right)
    }

    /// One text for all values that count as equal.
    fn canonical(&self, pattern: &str, value: &Value) -> String {
        match value {
            Value::Object(fields) => {
                let field = |(name, value): (&String, &Value)| {
                    (name.clone(), self.canonical(&format!("{pattern}.{name}"), value))
                };
                format!("{:?}", fields.iter().map(field).collect::<BTreeMap<_, _>>())
            }
            Value::Array(items) => {
                let below = format!("{pattern}[]");
                let mut items: Vec<_> = items.iter().map(|item| self.canonical(&below, item)).collect();
                if self.unordered.contains(pattern) {
                    items.sort_unstable();
                }
                format!("{items:?}")
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
        }
    }

    fn either(&mut self, place: &ValuePath, original: Option<&Value>, ours: Option<&Value>) {
        match (original, ours) {
            (Some(original), Some(ours)) => self.values(place, original, ours),
            (original, ours) => self.note(place, original, ours),
        }
    }

    fn note(&mut self, place: &ValuePath, original: Option<&Value>, ours: Option<&Value>) {
        if self.found.len() < MAX_DIFFERENCES {
            let path = place.path.clone();
            self.found.push(ValueDifference { path, original: original.cloned(), ours: ours.cloned() });
        }
    }
}

/// The field that every item of both lists has, with unique values: preferably one that is called an id, then the one
/// that pairs most items, then the first by name.
fn naming_field(original: &[Value], ours: &[Value]) -> Option<String> {
    let first = original.first().or(ours.first())?.as_object()?;
    let names = |items: &[Value], field: &str| -> Option<BTreeSet<String>> {
        let names: BTreeSet<_> = items.iter().map(|item| name_of(item.get(field)?)).collect::<Option<_>>()?;
        (names.len() == items.len()).then_some(names)
    };
    let rank = |field: &str| match field {
        "id" => 0,
        _ if field.ends_with("id") => 1,
        "name" => 2,
        _ => 3,
    };
    let candidates = first.keys().filter_map(|field| {
        let (original, ours) = (names(original, field)?, names(ours, field)?);
        let paired = original.intersection(&ours).count();
        Some((rank(field), Reverse(paired), field))
    });
    candidates.min().map(|(_, _, field)| field.clone())
}

/// A text or a whole number.
fn name_of(value: &Value) -> Option<String> {
    let number = || value.as_i64().map(|number| number.to_string());
    value.as_str().map(str::to_owned).or_else(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(original: &Value, ours: &Value, unordered: &[&str]) -> Vec<String> {
        let unordered = unordered.iter().map(|list| (*list).to_owned()).collect();
        differences(original, ours, &unordered).into_iter().map(|found| found.path).collect()
    }

    #[test]
    fn keys_have_no_order_and_lists_do() {
        let one: Value = serde_json::from_str(r#"{"data":[{"a":1,"b":2},3],"x":null}"#).unwrap();
        let other: Value = serde_json::from_str(r#"{"x":null,"data":[{"b":2,"a":1},3]}"#).unwrap();
        assert!(paths(&one, &other, &[]).is_empty());
        assert_eq!(paths(&json!({"data": [1, 2]}), &json!({"data": [2, 1]}), &[]), ["data[0]", "data[1]"]);
        assert!(paths(&json!({"data": [1, 2]}), &json!({"data": [2, 1]}), &["data"]).is_empty());
    }

    #[test]
    fn each_difference_has_its_path_and_values() {
        let one = json!({"data": [{"status": "running", "n": 1}, {"only": true}], "success": 1});
        let other = json!({"data": [{"status": "stopped", "n": "1"}], "success": 1, "more": []});
        let found = differences(&one, &other, &UnorderedLists::new());
        let shown: Vec<_> =
            found.iter().map(|it| (it.path.as_str(), it.original.clone(), it.ours.clone())).collect();
        assert_eq!(
            shown,
            [
                ("data[0].n", Some(json!(1)), Some(json!("1"))),
                ("data[0].status", Some(json!("running")), Some(json!("stopped"))),
                ("data[1]", Some(json!({"only": true})), None),
                ("more", None, Some(json!([]))),
            ]
        );
    }

    #[test]
    fn items_without_order_are_paired_by_name() {
        let one = json!({"data": [{"vmid": 100, "cpu": 0.1}, {"vmid": 101, "cpu": 0.2}, {"vmid": 102, "cpu": 0.2}]});
        let other = json!({"data": [{"vmid": 103, "cpu": 0.2}, {"vmid": 101, "cpu": 0.2}, {"vmid": 100, "cpu": 0.3}]});
        let expected = ["data[vmid=100].cpu", "data[vmid=102]", "data[vmid=103]"];
        assert_eq!(paths(&one, &other, &["data"]), expected);
    }

    #[test]
    fn items_without_a_name_are_counted() {
        let one = json!([["a", "b"], ["c"], ["c"]]);
        assert!(paths(&one, &json!([["c"], ["a", "b"], ["c"]]), &[""]).is_empty());
        assert!(paths(&one, &json!([["c"], ["b", "a"], ["c"]]), &["", "[]"]).is_empty());
        assert_eq!(
            paths(&one, &json!([["c"], ["a", "b"]]), &[""]),
            ["[0]"],
            "one more of two that are equal"
        );
        assert_eq!(paths(&json!({"m": ["a", "b"]}), &json!({"m": ["b", "c"]}), &["m"]), ["m[0]"]);
    }

    #[test]
    fn lists_within_items_may_have_no_order() {
        let one = json!({"data": [{"id": "x", "roles": ["a", "b"]}, {"id": "y", "roles": []}]});
        let other = json!({"data": [{"id": "y", "roles": []}, {"id": "x", "roles": ["b", "a"]}]});
        assert!(paths(&one, &other, &["data", "data[].roles"]).is_empty());
        assert_eq!(paths(&one, &other, &["data"]), ["data[id=x].roles[0]", "data[id=x].roles[1]"]);
    }
}
