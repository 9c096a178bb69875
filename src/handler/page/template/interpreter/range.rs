//! `[a..b]`, for numbers and for texts that increment as in Perl.

use super::{ControlFlow, Interpreter, Outcome};
use crate::handler::page::template::number::Number;
use crate::handler::page::template::text::TaintedText;
use crate::handler::page::template::value::Value;

const MAX_ITEMS: usize = 1 << 16;

impl Interpreter<'_> {
    pub(super) fn range(&mut self, first: &Value, last: &Value) -> Outcome<Value> {
        let items = if is_textual(first, last) {
            self.texts(&first.to_text(), &last.to_text())?
        } else {
            let (from, to) = (first.to_number().as_whole(), last.to_number().as_whole());
            let count =
                to.checked_sub(from).and_then(|count| usize::try_from(count.max(-1).saturating_add(1)).ok());
            self.spend(count.filter(|count| *count <= MAX_ITEMS).ok_or_else(too_many)?)?;
            (from..=to).map(|number| Value::Number(Number::Whole(number))).collect()
        };
        self.add_list(items)
    }

    /// The texts up to the last one, or until one is longer than it.
    fn texts(&mut self, first: &TaintedText, last: &TaintedText) -> Outcome<Vec<Value>> {
        let origin = first.origin().max(last.origin());
        let mut items = Vec::new();
        let mut current = first.as_str().to_owned();
        while current.len() <= last.len() {
            let item = TaintedText::new(&current, origin);
            self.spend(1 + 4 * item.steps())?;
            items.push(Value::text(item));
            if items.len() > MAX_ITEMS {
                return Err(too_many());
            }
            if current == last.as_str() {
                break;
            }
            match successor(&current) {
                Some(next) => current = next,
                None => break,
            }
        }
        Ok(items)
    }
}

/// Whether a range counts texts: neither end is a number, and the ends do not both look like numbers, or the first
/// begins with 0.
fn is_textual(first: &Value, last: &Value) -> bool {
    let is_number = |value: &Value| matches!(value, Value::Number(_));
    let is_numeric = first.looks_like_number() && last.looks_like_number();
    let is_padded = first.to_text().as_str().starts_with('0');
    !is_number(first) && !is_number(last) && (is_padded || !is_numeric)
}

fn too_many() -> ControlFlow {
    ControlFlow::failed(format!("a range has more than {MAX_ITEMS} items"))
}

/// Increments a text: `az` → `ba`, `Zz` → `AAa`, `a9` → `b0`. `None` for any other form.
fn successor(text: &str) -> Option<String> {
    let letters = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    if !letters.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut bytes = text.as_bytes().to_vec();
    for byte in bytes.iter_mut().rev() {
        match *byte {
            b'z' => *byte = b'a',
            b'Z' => *byte = b'A',
            b'9' => *byte = b'0',
            other => {
                *byte = other + 1;
                return String::from_utf8(bytes).ok();
            }
        }
    }
    let first = match text.bytes().next()? {
        b'z' => 'a',
        b'Z' => 'A',
        _ => '1',
    };
    Some(format!("{first}{}", String::from_utf8(bytes).ok()?))
}
