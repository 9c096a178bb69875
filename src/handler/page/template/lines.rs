//! Filters that work on the lines of a text.

use std::ops::Range;

use super::interpreter::{Interpreter, Outcome};
use super::text::TaintedText;

/// The ranges of single line ends, or of two or more consecutive ones.
fn line_ends(text: &str, is_paragraph: bool) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut counts = Vec::new();
    for (at, _) in text.match_indices('\n') {
        let start = if text.get(..at).is_some_and(|before| before.ends_with('\r')) { at - 1 } else { at };
        match (found.last_mut(), counts.last_mut()) {
            (Some(last), Some(count)) if is_paragraph && last.end == start => {
                last.end = at + 1;
                *count += 1;
            }
            _ => {
                found.push(start..at + 1);
                counts.push(1);
            }
        }
    }
    let least = if is_paragraph { 2 } else { 1 };
    found.into_iter().zip(counts).filter(|(_, count)| *count >= least).map(|(range, _)| range).collect()
}

pub(super) fn paragraphs(text: &TaintedText) -> TaintedText {
    let mut result = TaintedText::literal("<p>\n");
    let ends = line_ends(text.as_str(), true);
    let mut start = 0;
    for range in &ends {
        // Perl's `split` drops empty parts at the end
        if range.end < text.len() {
            result.push_text(&text.slice(start..range.start));
            result.push("\n</p>\n\n<p>\n", text.slice(range.clone()).origin());
        } else {
            result.push_text(&text.slice(start..range.start));
        }
        start = range.end;
    }
    result.push_text(&text.slice(start..text.len()));
    result.push_literal("</p>\n");
    result
}

/// Inserts `<br />` at each line end, or two of them at an empty line.
pub(super) fn breaks(text: &TaintedText, is_paragraph: bool) -> TaintedText {
    let mut result = TaintedText::default();
    let mut start = 0;
    for range in line_ends(text.as_str(), is_paragraph) {
        result.push_text(&text.slice(start..range.start));
        let ends = text.slice(range.clone());
        let origin = ends.origin();
        let one = if ends.as_str().ends_with("\r\n") { "\r\n" } else { "\n" };
        if is_paragraph {
            for part in [one, "<br />", one, "<br />", one] {
                result.push(part, origin);
            }
        } else {
            result.push("<br />", origin);
            result.push(one, origin);
        }
        start = range.end;
    }
    result.push_text(&text.slice(start..text.len()));
    result
}

/// Changes each line. Empty lines at the end are removed, as in Template Toolkit.
pub(super) fn each(
    text: &TaintedText,
    interpreter: &mut Interpreter<'_>,
    change: impl Fn(&TaintedText, &mut Interpreter<'_>) -> Outcome<TaintedText>,
) -> Outcome<TaintedText> {
    let mut result = TaintedText::default();
    let mut start = 0;
    let end = text.as_str().trim_end_matches('\n').len();
    for (number, line) in text.as_str().get(..end).unwrap_or_default().split('\n').enumerate() {
        if text.is_empty() || end == 0 {
            break;
        }
        if number > 0 {
            result.push("\n", text.slice(start - 1..start).origin());
        }
        let changed = change(&text.slice(start..start + line.len()), interpreter)?;
        interpreter.append(&mut result, &changed)?;
        start += line.len() + 1;
    }
    Ok(result)
}
