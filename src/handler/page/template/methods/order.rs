//! Sorting of lists, by what it sorts.

use std::cmp::Ordering;

use crate::handler::page::template::value::Value;

pub(super) fn by_text(items: Vec<Value>, key: impl Fn(&Value) -> String) -> Vec<Value> {
    let mut keyed: Vec<_> = items.into_iter().map(|item| (key(&item), item)).collect();
    keyed.sort_by(|(left, _), (right, _)| left.cmp(right));
    keyed.into_iter().map(|(_, item)| item).collect()
}

pub(super) fn by_number(items: Vec<Value>, key: impl Fn(&Value) -> f64) -> Vec<Value> {
    by_numbers(items, |item| vec![key(item)])
}

/// By the first number that differs. What is no number is equal to all.
pub(super) fn by_numbers(items: Vec<Value>, keys: impl Fn(&Value) -> Vec<f64>) -> Vec<Value> {
    let mut keyed: Vec<_> = items.into_iter().map(|item| (keys(&item), item)).collect();
    keyed.sort_by(|(left, _), (right, _)| {
        let orders = left.iter().zip(right).map(|(left, right)| left.total_cmp(right));
        orders.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    keyed.into_iter().map(|(_, item)| item).collect()
}
