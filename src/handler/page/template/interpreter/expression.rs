//! Evaluates expressions.

use std::sync::Arc;

use super::{ControlFlow, Interpreter, Outcome};
use crate::handler::page::template::ast::{Comparison, Expression, Operator};
use crate::handler::page::template::text::TaintedText;
use crate::handler::page::template::value::{Hash, Value};

impl Interpreter<'_> {
    pub(super) fn evaluate(&mut self, expression: &Expression) -> Outcome<Value> {
        self.spend(1)?;
        if let Expression::Literal(text) = expression {
            return Ok(Value::Text(Arc::clone(text)));
        }
        self.deeper(|interpreter| interpreter.evaluate_deeper(expression))
    }

    fn evaluate_deeper(&mut self, expression: &Expression) -> Outcome<Value> {
        match expression {
            Expression::Literal(text) => Ok(Value::Text(Arc::clone(text))),
            Expression::Number(number) => Ok(Value::Number(*number)),
            Expression::Variable(path) => self.read(path),
            Expression::Quoted(parts) => self.join(parts),
            Expression::List(items) => {
                let items = items.iter().map(|item| self.evaluate(item)).collect::<Outcome<_>>()?;
                self.add_list(items)
            }
            Expression::Range(ends) => {
                let [first, last] = ends.as_ref();
                let (first, last) = (self.evaluate(first)?, self.evaluate(last)?);
                self.range(&first, &last)
            }
            Expression::Hash(pairs) => {
                let mut hash = Hash::new();
                for (key, value) in pairs {
                    let key = self.evaluate(key)?.to_text();
                    let value = self.evaluate(value)?;
                    self.insert(&mut hash, &key, value)?;
                }
                Ok(Value::Hash(self.heap.add_hash(hash)))
            }
            Expression::Assign(assignment) => {
                let value = self.evaluate(&assignment.value)?;
                self.assign(&assignment.target, value, false)
            }
            Expression::Not(inner) => Ok(Value::truth(!self.evaluate(inner)?.is_true())),
            Expression::And(operands) => self.first_that(operands, |value| !value.is_true()),
            Expression::Or(operands) => self.first_that(operands, Value::is_true),
            Expression::Compare(first, rest) => self.compare(first, rest),
            Expression::Compute(first, rest) => {
                rest.iter().try_fold(self.evaluate(first)?, |left, (operator, right)| {
                    let right = self.evaluate(right)?;
                    self.compute(*operator, &left, &right)
                })
            }
            Expression::Choice(parts) => {
                let [condition, yes, no] = parts.as_ref();
                let taken = if self.evaluate(condition)?.is_true() { yes } else { no };
                self.evaluate(taken)
            }
        }
    }

    fn join(&mut self, parts: &[Expression]) -> Outcome<Value> {
        let mut text = TaintedText::default();
        for part in parts {
            let part = self.evaluate(part)?.to_text();
            self.append(&mut text, &part)?;
        }
        Ok(Value::text(text))
    }

    /// The first value that decides the result, otherwise the last one.
    fn first_that(&mut self, operands: &[Expression], decides: fn(&Value) -> bool) -> Outcome<Value> {
        let mut value = Value::Undefined;
        for operand in operands {
            value = self.evaluate(operand)?;
            if decides(&value) {
                break;
            }
        }
        Ok(value)
    }

    /// Compares each value with the next, up to the first comparison that is false.
    fn compare(&mut self, first: &Expression, rest: &[(Comparison, Expression)]) -> Outcome<Value> {
        let mut left = self.evaluate(first)?;
        for (comparison, right) in rest {
            let right = self.evaluate(right)?;
            for text in [&left, &right].map(Value::to_text) {
                self.spend(text.len() / 256)?;
            }
            if !holds(*comparison, &left, &right) {
                return Ok(Value::truth(false));
            }
            left = right;
        }
        Ok(Value::truth(true))
    }

    fn compute(&mut self, operator: Operator, left: &Value, right: &Value) -> Outcome<Value> {
        let (a, b) = (left.to_number(), right.to_number());
        let divided = |result: Option<_>, name: &str| {
            result.ok_or_else(|| {
                ControlFlow::thrown("undef", TaintedText::literal(&format!("Illegal {name} zero")))
            })
        };
        Ok(Value::Number(match operator {
            Operator::Join => {
                let mut text = TaintedText::default();
                for part in [left, right].map(Value::to_text) {
                    self.append(&mut text, &part)?;
                }
                return Ok(Value::text(text));
            }
            Operator::Add => a.add(b),
            Operator::Subtract => a.subtract(b),
            Operator::Multiply => a.multiply(b),
            Operator::Divide => divided(a.divide(b), "division by")?,
            Operator::DivideWhole => divided(a.divide(b), "division by")?.truncate(),
            Operator::Modulo => divided(a.modulo(b), "modulus")?,
        }))
    }
}

/// `==` and `!=` compare texts, the others numbers, as in Template Toolkit.
fn holds(comparison: Comparison, left: &Value, right: &Value) -> bool {
    let numbers = || (left.to_number().as_float(), right.to_number().as_float());
    let is_equal = || left.to_text().as_str() == right.to_text().as_str();
    match comparison {
        Comparison::Equal => is_equal(),
        Comparison::Unequal => !is_equal(),
        Comparison::Less => numbers().0 < numbers().1,
        Comparison::Greater => numbers().0 > numbers().1,
        Comparison::LessOrEqual => numbers().0 <= numbers().1,
        Comparison::GreaterOrEqual => numbers().0 >= numbers().1,
    }
}
