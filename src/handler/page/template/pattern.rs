//! Perl's regular expressions in filters and methods. A page compiles each pattern once, and each search has a limit.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use fancy_regex::{Regex, RegexBuilder};

use super::interpreter::{ControlFlow, Interpreter, Outcome};
use super::text::TaintedText;
use crate::handler::page::sanitized::CharacterOrigin;

const MAX_PATTERN_BYTES: usize = 1024;
/// Memory of a compiled pattern.
const COMPILED_BYTES: usize = 1 << 20;
/// Steps for a new pattern.
const STEPS_TO_COMPILE: usize = 3000;
/// Backtracking steps of one search.
const MAX_TRIES: usize = 10_000;
/// Steps for a search with backtracking.
const STEPS_TO_TRY: usize = 1000;
/// Steps for each byte of such a search.
const STEPS_PER_BYTE: usize = 8;

pub(super) type PatternCache = BTreeMap<String, Arc<Pattern>>;

pub(super) struct Pattern {
    regex: Regex,
    /// look-around or back references, which need backtracking
    has_choices: bool,
    /// states that a search keeps for each byte
    weight: usize,
}

impl Pattern {
    /// The steps of a search, with or without a match.
    fn steps(&self, bytes: usize) -> usize {
        if self.has_choices { STEPS_TO_TRY + STEPS_PER_BYTE * bytes } else { 1 + self.weight * bytes / 2048 }
    }
}

pub(super) struct PatternMatch {
    pub(super) whole: Range<usize>,
    /// without group 0, the whole match
    pub(super) groups: Vec<Option<Range<usize>>>,
}

impl Interpreter<'_> {
    pub(super) fn pattern(&mut self, pattern: &str) -> Outcome<Arc<Pattern>> {
        if let Some(known) = self.patterns.get(pattern) {
            return Ok(Arc::clone(known));
        }
        self.spend(STEPS_TO_COMPILE)?;
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(ControlFlow::failed(format!("a pattern is longer than {MAX_PATTERN_BYTES} bytes")));
        }
        let regex = RegexBuilder::new(pattern)
            .delegate_size_limit(COMPILED_BYTES)
            .delegate_dfa_size_limit(COMPILED_BYTES)
            .backtrack_limit(MAX_TRIES)
            .build()
            .map_err(|_| ControlFlow::failed("a pattern is not supported"))?;
        let linear = regex::RegexBuilder::new(pattern).size_limit(COMPILED_BYTES).build();
        let weight = if pattern.contains('{') { 16 } else { 1 };
        let compiled = Arc::new(Pattern { regex, has_choices: linear.is_err(), weight });
        self.patterns.insert(pattern.to_owned(), Arc::clone(&compiled));
        Ok(compiled)
    }

    /// The first match, or all of them in Perl's order.
    pub(super) fn search(
        &mut self,
        pattern: &str,
        text: &str,
        is_global: bool,
    ) -> Outcome<Vec<PatternMatch>> {
        let pattern = self.pattern(pattern)?;
        let mut found = Vec::new();
        let mut from = 0;
        let mut empty_at = None;
        while from <= text.len() {
            self.spend(pattern.steps(text.len() - from))?;
            let captures = pattern
                .regex
                .captures_from_pos(text, from)
                .map_err(|_| ControlFlow::failed("a pattern takes too long"))?;
            let Some(whole) = captures.as_ref().and_then(|captures| captures.get(0)) else { break };
            if whole.start() == whole.end() && empty_at == Some(whole.end()) {
                from += text.get(from..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
                empty_at = None;
                continue;
            }
            let groups: Vec<_> = captures.iter().flat_map(|captures| captures.iter().skip(1)).collect();
            let (scanned, matched) = (whole.end() - from, whole.end() - whole.start());
            self.spend(1 + pattern.weight * (scanned / 64 + matched / 8) + groups.len())?;
            found.push(PatternMatch {
                whole: whole.start()..whole.end(),
                groups: groups
                    .into_iter()
                    .map(|group| group.map(|group| group.start()..group.end()))
                    .collect(),
            });
            if !is_global {
                break;
            }
            from = whole.end();
            empty_at = (whole.start() == whole.end()).then_some(from);
        }
        Ok(found)
    }

    /// Replaces each match. The replacement counts as outside text if its neighbours do.
    pub(super) fn replace(
        &mut self,
        text: &TaintedText,
        pattern: &str,
        replacement: &TaintedText,
        is_global: bool,
        has_groups: bool,
    ) -> Outcome<TaintedText> {
        let found = self.search(pattern, text.as_str(), is_global)?;
        let mut replaced = TaintedText::default();
        let mut end = 0;
        self.spend(text.steps())?;
        for place in &found {
            replaced.push_text(&text.slice(end..place.whole.start));
            let origin = text.origin_around(&place.whole);
            if has_groups {
                for (piece, own) in replacement.pieces() {
                    self.expand(piece, own.max(origin), place, text, &mut replaced)?;
                }
            } else {
                replaced.insert(replacement, origin);
            }
            end = place.whole.end;
            self.spend(1 + replacement.steps())?;
            self.check_length(replaced.len())?;
        }
        replaced.push_text(&text.slice(end..text.len()));
        self.spend_text(&replaced)?;
        Ok(replaced)
    }

    /// Expands `$1` to a group, and `\$` and `\\` to the character itself.
    fn expand(
        &mut self,
        piece: &str,
        origin: CharacterOrigin,
        place: &PatternMatch,
        text: &TaintedText,
        replaced: &mut TaintedText,
    ) -> Outcome<()> {
        let mut rest = piece;
        while let Some(character) = rest.chars().next() {
            rest = rest.get(character.len_utf8()..).unwrap_or_default();
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            if character == '\\' && rest.starts_with(['\\', '$']) {
                let escaped = rest.get(..1).unwrap_or_default();
                replaced.push(escaped, origin);
                rest = rest.get(1..).unwrap_or_default();
            } else if character == '$' && digits > 0 {
                let number = rest.get(..digits).and_then(|digits| digits.parse::<usize>().ok());
                let group =
                    number.and_then(|number| place.groups.get(number.checked_sub(1)?)).cloned().flatten();
                if let Some(group) = group {
                    self.append(replaced, &text.slice(group))?;
                }
                rest = rest.get(digits..).unwrap_or_default();
            } else {
                replaced.push(character.encode_utf8(&mut [0; 4]), origin);
            }
        }
        Ok(())
    }
}

/// Whether a replacement refers to groups.
pub(super) fn names_groups(replacement: &str) -> bool {
    replacement.split('$').skip(1).any(|behind| behind.starts_with(|c: char| c.is_ascii_digit()))
}
