//! The budget of a page. Steps limit time and memory: values live until the page is done, so bytes need no other
//! limit.

use super::{ControlFlow, Interpreter, Outcome};
use crate::handler::page::template::text::TaintedText;
use crate::handler::page::template::value::{Entry, Hash, ListId, Value};
use crate::handler::page::template::{MAX_PAGE_BYTES, RenderError};

/// Steps of one page: a statement, an expression, a list item, or 64 bytes of text. A worker thread that renders a
/// page serves other requests as well, so the most expensive page must be short.
const MAX_WORK: usize = 300_000;
/// Nested statements, expressions and calls.
const MAX_DEPTH: usize = 200;

impl Interpreter<'_> {
    /// Spends steps before the work is done.
    ///
    /// # Errors
    /// The page has no steps left.
    pub(in super::super) fn spend(&mut self, steps: usize) -> Outcome<()> {
        self.work = self.work.saturating_add(steps);
        if self.work > MAX_WORK {
            return Err(ControlFlow::Failed(RenderError::TooMuchWork { line: self.line }));
        }
        Ok(())
    }

    /// Spends the steps of a new or scanned text.
    pub(in super::super) fn spend_text(&mut self, text: &TaintedText) -> Outcome<()> {
        self.spend(text.steps())?;
        self.check_length(text.len())
    }

    pub(in super::super) fn spend_texts(&mut self, values: &[Value]) -> Outcome<()> {
        values.iter().try_for_each(|value| {
            if let Value::Text(text) = value { self.spend(text.steps()) } else { Ok(()) }
        })
    }

    /// Limits a text to the length of a page.
    pub(in super::super) fn check_length(&self, bytes: usize) -> Outcome<()> {
        if bytes > MAX_PAGE_BYTES {
            return Err(ControlFlow::Failed(RenderError::TooLong { line: self.line }));
        }
        Ok(())
    }

    pub(in super::super) fn append(&mut self, text: &mut TaintedText, more: &TaintedText) -> Outcome<()> {
        self.check_length(text.len() + more.len())?;
        self.spend(more.steps())?;
        text.push_text(more);
        Ok(())
    }

    pub(in super::super) fn add_list(&mut self, items: Vec<Value>) -> Outcome<Value> {
        self.add_list_id(items).map(Value::List)
    }

    pub(in super::super) fn add_list_id(&mut self, items: Vec<Value>) -> Outcome<ListId> {
        self.spend(1 + items.len())?;
        Ok(self.heap.add_list(items))
    }

    /// The items of a list, or the value itself.
    pub(super) fn items_or_single(&mut self, value: Value) -> Outcome<Vec<Value>> {
        let Value::List(id) = value else { return Ok(vec![value]) };
        self.list_items(id)
    }

    pub(in super::super) fn list_items(&mut self, id: ListId) -> Outcome<Vec<Value>> {
        self.spend(self.heap.list(id).len())?;
        Ok(self.heap.list(id).to_vec())
    }

    pub(in super::super) fn insert(
        &mut self,
        hash: &mut Hash,
        key: &TaintedText,
        value: Value,
    ) -> Outcome<()> {
        let entry = self.entry(key, value)?;
        hash.insert(key.as_str().into(), entry);
        Ok(())
    }

    /// An entry of a hash. The key is copied twice.
    pub(super) fn entry(&mut self, key: &TaintedText, value: Value) -> Outcome<Entry> {
        self.spend(2 * key.steps())?;
        Ok(Entry { key: key.clone().into(), value })
    }

    pub(super) fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.depth == MAX_DEPTH {
            return Err(ControlFlow::failed(format!("more than {MAX_DEPTH} calls within one another")));
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }
}
