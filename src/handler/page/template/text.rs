//! Text that knows the origin of each of its characters. Pure.
//!
//! Outside characters keep their origin through every construct of the language. They are escaped only when the page
//! is written. Filters and methods see the real text, and cannot undo the escaping.

use std::ops::Range;

use crate::handler::page::sanitized::{CharacterOrigin, SanitizedValue, write_piece};

/// Bytes of text for one step.
const BYTES_PER_STEP: usize = 64;

/// Characters and their origins.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct TaintedText {
    characters: String,
    /// the end of each run of one origin; the last one is the end of the text
    runs: Vec<(usize, CharacterOrigin)>,
}

impl TaintedText {
    pub(super) fn new(characters: &str, origin: CharacterOrigin) -> Self {
        let mut text = Self::default();
        text.push(characters, origin);
        text
    }

    pub(super) fn literal(characters: &str) -> Self {
        Self::new(characters, CharacterOrigin::Template)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.characters
    }

    pub(super) fn from_value(value: &SanitizedValue) -> Self {
        Self::new(value.raw(), value.origin())
    }

    /// Steps for a copy of the text: its bytes, and its runs of one origin.
    pub(super) fn steps(&self) -> usize {
        1 + self.len() / BYTES_PER_STEP + self.runs.len() / 2
    }

    /// Bytes from outside of the template.
    pub(super) fn outside_len(&self) -> usize {
        let outside = self.pieces().filter(|(_, origin)| *origin != CharacterOrigin::Template);
        outside.map(|(piece, _)| piece.len()).sum()
    }

    pub(super) fn len(&self) -> usize {
        self.characters.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.characters.is_empty()
    }

    /// Whether Perl treats the text as true.
    pub(super) fn is_true(&self) -> bool {
        !matches!(self.as_str(), "" | "0")
    }

    pub(super) fn clear(&mut self) {
        self.characters.clear();
        self.runs.clear();
    }

    pub(super) fn push(&mut self, characters: &str, origin: CharacterOrigin) {
        if characters.is_empty() {
            return;
        }
        self.characters.push_str(characters);
        let end = self.characters.len();
        match self.runs.last_mut() {
            Some((last, known)) if *known == origin => *last = end,
            Some(_) | None => self.runs.push((end, origin)),
        }
    }

    pub(super) fn push_literal(&mut self, characters: &str) {
        self.push(characters, CharacterOrigin::Template);
    }

    pub(super) fn push_text(&mut self, other: &Self) {
        for (characters, origin) in other.pieces() {
            self.push(characters, origin);
        }
    }

    /// Inserts text of a filter or method. Its special characters count as outside text if their neighbours do,
    /// because an outside value may decide whether and how often they are there.
    pub(super) fn insert(&mut self, inserted: &Self, beside: CharacterOrigin) {
        for (piece, origin) in inserted.pieces() {
            let is_plain = piece.chars().all(|it| it.is_ascii_alphanumeric() || " ,._-".contains(it));
            self.push(piece, if is_plain { origin } else { origin.max(beside) });
        }
    }

    /// The runs of one origin, in order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (&str, CharacterOrigin)> {
        let mut start = 0;
        self.runs.iter().map(move |(end, origin)| {
            let piece = self.characters.get(start..*end).unwrap_or_default();
            start = *end;
            (piece, *origin)
        })
    }

    /// The part between two byte positions, which are character boundaries.
    #[must_use]
    pub(super) fn slice(&self, range: Range<usize>) -> Self {
        let mut text = Self::default();
        let mut from = range.start;
        for (end, origin) in self.runs_from(range.start) {
            if from >= range.end {
                break;
            }
            let to = (*end).min(range.end);
            text.push(self.characters.get(from..to).unwrap_or_default(), *origin);
            from = to;
        }
        text
    }

    /// The run of a position, and the runs behind it.
    fn runs_from(&self, position: usize) -> &[(usize, CharacterOrigin)] {
        let first = self.runs.partition_point(|(end, _)| *end <= position);
        self.runs.get(first..).unwrap_or_default()
    }

    /// The strictest origin at and beside a range, because inserted text may depend on all of them.
    pub(super) fn origin_around(&self, range: &Range<usize>) -> CharacterOrigin {
        let (mut start, to) = (range.start.saturating_sub(1), range.end.saturating_add(1));
        let mut strictest = CharacterOrigin::Template;
        for (end, origin) in self.runs_from(start) {
            if start >= to {
                break;
            }
            strictest = strictest.max(*origin);
            start = *end;
        }
        strictest
    }

    /// The strictest origin of all characters.
    pub(super) fn origin(&self) -> CharacterOrigin {
        self.runs.iter().map(|(_, origin)| *origin).max().unwrap_or(CharacterOrigin::Template)
    }

    /// Changes each run. The result keeps its origin.
    #[must_use]
    pub(super) fn map(&self, change: impl Fn(&str) -> String) -> Self {
        let mut text = Self::default();
        for (piece, origin) in self.pieces() {
            text.push(&change(piece), origin);
        }
        text
    }

    /// The byte position of a character, or the end of the text.
    pub(super) fn position(&self, number: usize) -> usize {
        self.characters.char_indices().nth(number).map_or(self.len(), |(at, _)| at)
    }

    /// The text for a log message, without outside text.
    pub(super) fn to_message(&self) -> String {
        let shown = |(piece, origin)| if origin == CharacterOrigin::Template { piece } else { "…" };
        self.pieces().map(shown).collect()
    }

    /// The text in a page. No outside character ends a string, an attribute or an element.
    pub(super) fn to_page(&self) -> String {
        let mut page = String::with_capacity(self.len());
        for (piece, origin) in self.pieces() {
            write_piece(piece, origin, &mut page);
        }
        page
    }
}
