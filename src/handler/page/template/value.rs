//! The values of a template's variables.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::Macro;
use super::number::Number;
use super::text::TaintedText;

/// Lists and hashes are shared, as in Perl: two variables may refer to the same one.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Undefined,
    Number(Number),
    Text(Arc<TaintedText>),
    List(ListId),
    Hash(HashId),
    /// the variable `loop`
    Iterator(Rc<LoopIteration>),
    /// `USE date`, with its arguments
    Date(HashId),
    Macro(Arc<Macro>),
    Error(Rc<ThrownException>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ListId(usize);
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct HashId(usize);

/// The exception of `THROW`.
#[derive(Debug)]
pub(super) struct ThrownException {
    pub(super) kind: TaintedText,
    pub(super) info: Value,
    text: Arc<TaintedText>,
}

impl ThrownException {
    /// A nested exception becomes its text, so a loop cannot build a deep chain.
    pub(super) fn new(kind: TaintedText, info: Value) -> Self {
        let info = if let Value::Error(inner) = info { Value::Text(Arc::clone(&inner.text)) } else { info };
        let mut text = kind.clone();
        text.push_literal(" error - ");
        text.push_text(&info.to_text());
        Self { kind, info, text: Arc::new(text) }
    }
}

/// Sorted by key. Perl's order is random, so no template can depend on it.
pub(super) type Hash = BTreeMap<Arc<str>, Entry>;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// the key with its origin
    pub(super) key: Arc<TaintedText>,
    pub(super) value: Value,
}

/// The position of a loop.
#[derive(Debug)]
pub(super) struct LoopIteration {
    pub(super) list: ListId,
    pub(super) index: Cell<usize>,
    pub(super) size: usize,
}

/// All lists and hashes of one page. They are freed with the page, even in reference cycles.
#[derive(Default)]
pub(super) struct ValueHeap {
    lists: Vec<Vec<Value>>,
    hashes: Vec<Hash>,
}

impl ValueHeap {
    pub(super) fn add_list(&mut self, items: Vec<Value>) -> ListId {
        self.lists.push(items);
        ListId(self.lists.len() - 1)
    }

    pub(super) fn add_hash(&mut self, hash: Hash) -> HashId {
        self.hashes.push(hash);
        HashId(self.hashes.len() - 1)
    }

    pub(super) fn list(&self, id: ListId) -> &[Value] {
        self.lists.get(id.0).map(Vec::as_slice).unwrap_or_default()
    }

    /// `add_list` has created every id, so the list always exists.
    pub(super) fn list_mut(&mut self, id: ListId) -> Option<&mut Vec<Value>> {
        self.lists.get_mut(id.0)
    }

    pub(super) fn hash(&self, id: HashId) -> Option<&Hash> {
        self.hashes.get(id.0)
    }

    pub(super) fn hash_mut(&mut self, id: HashId) -> Option<&mut Hash> {
        self.hashes.get_mut(id.0)
    }

    pub(super) fn hash_value(&self, id: HashId, key: &str) -> Option<&Value> {
        self.hash(id)?.get(key).map(|entry| &entry.value).filter(|value| value.is_defined())
    }

    /// Adds a hash whose keys are literals.
    pub(super) fn add_pairs(&mut self, pairs: Vec<(&str, Value)>) -> Value {
        let entry = |(key, value): (&str, Value)| {
            (key.into(), Entry { key: TaintedText::literal(key).into(), value })
        };
        Value::Hash(self.add_hash(pairs.into_iter().map(entry).collect()))
    }
}

impl Value {
    pub(super) fn text(text: TaintedText) -> Self {
        Self::Text(Arc::new(text))
    }

    pub(super) fn literal(text: &str) -> Self {
        Self::text(TaintedText::literal(text))
    }

    pub(super) fn count(number: usize) -> Self {
        Self::Number(Number::Whole(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    /// Perl's values for true and false.
    pub(super) fn truth(is_true: bool) -> Self {
        Self::literal(if is_true { "1" } else { "" })
    }

    pub(super) fn is_defined(&self) -> bool {
        !matches!(self, Self::Undefined)
    }

    pub(super) fn is_true(&self) -> bool {
        if let Self::Text(text) = self { text.is_true() } else { self.to_number().is_true() }
    }

    /// The text in a page. Perl prints the address of a list or hash.
    pub(super) fn to_text(&self) -> Arc<TaintedText> {
        let named =
            |kind: &str, id: usize| Arc::new(TaintedText::literal(&format!("{kind}(0x{:x})", id + 1)));
        match self {
            Self::Undefined => Arc::default(),
            Self::Number(number) => Arc::new(TaintedText::literal(&number.to_string())),
            Self::Text(text) => Arc::clone(text),
            Self::List(id) => named("ARRAY", id.0),
            Self::Hash(id) => named("HASH", id.0),
            Self::Iterator(iteration) => named("Template::Iterator=HASH", iteration.list.0),
            Self::Date(id) => named("Template::Plugin::Date=HASH", id.0),
            Self::Macro(_) => Arc::new(TaintedText::literal("CODE(0x1)")),
            Self::Error(error) => Arc::clone(&error.text),
        }
    }

    pub(super) fn to_number(&self) -> Number {
        match self {
            Self::Undefined => Number::Whole(0),
            Self::Number(number) => *number,
            Self::Text(text) => Number::from_text(text.as_str()),
            Self::List(_)
            | Self::Hash(_)
            | Self::Iterator(_)
            | Self::Date(_)
            | Self::Macro(_)
            | Self::Error(_) => Number::Whole(1),
        }
    }

    /// Whether the value is a number, or a text that is a number.
    pub(super) fn looks_like_number(&self) -> bool {
        let is_numeric_text = |text: &TaintedText| Number::from_whole_text(text.as_str()).is_some();
        matches!(self, Self::Number(_)) || matches!(self, Self::Text(text) if is_numeric_text(text))
    }
}
