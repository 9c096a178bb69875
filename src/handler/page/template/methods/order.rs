//! Sorts lists.

use std::cmp::Ordering;

use crate::handler::page::template::interpreter::{Interpreter, Outcome};
use crate::handler::page::template::value::Value;

/// Spends the steps of comparing and copying.
pub(super) fn spend(interpreter: &mut Interpreter<'_>, values: &[Value]) -> Outcome<()> {
    let rounds = 1 + usize::try_from(values.len().checked_ilog2().unwrap_or_default()).unwrap_or_default();
    for value in values {
        interpreter.spend((1 + value.to_text().len() / 64).saturating_mul(rounds) / 4 + 1)?;
    }
    Ok(())
}

pub(super) fn by_text<T>(items: Vec<T>, key: impl Fn(&T) -> String) -> Vec<T> {
    let mut keyed: Vec<_> = items.into_iter().map(|item| (key(&item), item)).collect();
    keyed.sort_by(|(left, _), (right, _)| left.cmp(right));
    keyed.into_iter().map(|(_, item)| item).collect()
}

pub(super) fn by_number<T>(items: Vec<T>, key: impl Fn(&T) -> f64) -> Vec<T> {
    by_numbers(items, |item| vec![key(item)])
}

/// Sorts by the first number that differs. NaN equals every number.
pub(super) fn by_numbers<T>(items: Vec<T>, keys: impl Fn(&T) -> Vec<f64>) -> Vec<T> {
    let mut keyed: Vec<_> = items.into_iter().map(|item| (keys(&item), item)).collect();
    keyed.sort_by(|(left, _), (right, _)| {
        let orders = left.iter().zip(right).map(|(left, right)| left.total_cmp(right));
        orders.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    keyed.into_iter().map(|(_, item)| item).collect()
}
