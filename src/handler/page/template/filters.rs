//! The filters of text.

use std::fmt::Write as _;

use super::interpreter::{Interpreter, Outcome, argument_text};
use super::text::TaintedText;
use super::value::Value;
use super::{format, lines};
use crate::handler::page::sanitized::{CharacterOrigin, escape_html, write_piece};

/// Filters with arguments.
const DYNAMIC: &[&str] = &["indent", "format", "truncate", "repeat", "replace", "remove"];

/// The default length of `truncate`.
const TRUNCATED_CHARS: i64 = 32;
const TRUNCATED_SUFFIX: &str = "...";

/// Whether a filter of this name exists.
pub(super) fn is_known(name: &str) -> bool {
    simple(name, &TaintedText::default()).is_some() || DYNAMIC.contains(&name)
}

#[derive(Clone, Debug)]
pub(super) struct Filter {
    name: String,
    arguments: Vec<Value>,
}

impl Filter {
    pub(super) fn new(name: &str, arguments: Vec<Value>) -> Option<Self> {
        is_known(name).then(|| Self { name: name.to_owned(), arguments })
    }

    pub(super) fn apply(
        &self,
        text: &TaintedText,
        interpreter: &mut Interpreter<'_>,
    ) -> Outcome<TaintedText> {
        interpreter.spend_text(text)?;
        let filtered = match simple(&self.name, text) {
            Some(filtered) => filtered,
            None => self.apply_dynamic(text, interpreter)?,
        };
        interpreter.spend_text(&filtered)?;
        Ok(filtered)
    }

    fn apply_dynamic(&self, text: &TaintedText, interpreter: &mut Interpreter<'_>) -> Outcome<TaintedText> {
        let argument = |number| argument_text(&self.arguments, number);
        match self.name.as_str() {
            "indent" => self.indent(text, interpreter),
            "format" => {
                let format = argument(0).unwrap_or_else(|| TaintedText::literal("%s").into());
                let beside = text.origin();
                lines::each(text, interpreter, |line, interpreter| {
                    format::print(&format, line, beside, interpreter)
                })
            }
            "truncate" => Ok(self.truncate(text)),
            "repeat" => {
                let count = argument(0).filter(|count| !count.is_empty());
                let count = count.map_or(1, |count| Value::Text(count).to_number().as_whole());
                repeated(interpreter, text, usize::try_from(count).unwrap_or_default())
            }
            "replace" => {
                let (pattern, replacement) =
                    (argument(0).unwrap_or_default(), argument(1).unwrap_or_default());
                interpreter.replace(text, pattern.as_str(), &replacement, true, false)
            }
            _ => {
                let pattern = argument(0).unwrap_or_default();
                interpreter.replace(text, pattern.as_str(), &TaintedText::default(), true, false)
            }
        }
    }

    /// Inserts a number of blanks, or a text, before each line.
    fn indent(&self, text: &TaintedText, interpreter: &mut Interpreter<'_>) -> Outcome<TaintedText> {
        let pad = argument_text(&self.arguments, 0).unwrap_or_else(|| TaintedText::literal("4").into());
        let is_number = !pad.is_empty() && pad.as_str().bytes().all(|byte| byte.is_ascii_digit());
        let pad = if is_number {
            let count = Value::Text(pad).to_number().as_whole();
            repeated(interpreter, &TaintedText::literal(" "), usize::try_from(count).unwrap_or_default())?
        } else {
            TaintedText::clone(&pad)
        };
        let mut indented = TaintedText::default();
        let mut start = 0_usize;
        for line in text.as_str().split_inclusive('\n') {
            interpreter.spend(1 + pad.steps())?;
            let origin = text.slice(start.saturating_sub(1)..start).origin();
            indented.insert(&pad, origin);
            indented.push_text(&text.slice(start..start + line.len()));
            start += line.len();
            interpreter.check_length(indented.len())?;
        }
        if text.is_empty() {
            indented.push_text(&pad);
        }
        Ok(indented)
    }

    fn truncate(&self, text: &TaintedText) -> TaintedText {
        let mut end = argument_text(&self.arguments, 1)
            .unwrap_or_else(|| TaintedText::literal(TRUNCATED_SUFFIX).into());
        let length = self.arguments.first().filter(|value| value.is_defined());
        let length = length.map_or(TRUNCATED_CHARS, |value| value.to_number().as_whole());
        let length = usize::try_from(length).unwrap_or_default();
        let count = |text: &TaintedText| text.as_str().chars().count();
        if count(&end) > length {
            end = end.slice(0..end.position(length)).into();
        }
        if count(text) <= length {
            return text.clone();
        }
        let kept = 0..text.position(length - count(&end));
        let mut truncated = text.slice(kept.clone());
        let origin = text.origin_around(&(kept.end..kept.end));
        truncated.insert(&end, origin);
        truncated
    }
}

/// Applies a filter without arguments, which is a method as well. `None` for any other name.
pub(super) fn simple(name: &str, text: &TaintedText) -> Option<TaintedText> {
    Some(match name {
        "html" => text.map(escape_html),
        "html_entity" => text.map(|piece| escape_html(piece).replace('\'', "&#39;")),
        "xml" => text.map(|piece| escape_html(piece).replace('\'', "&apos;")),
        "uri" => encoded(text, "-_.!~*'()"),
        "url" => encoded(text, "-_.!~*'();/?:@&=+$,"),
        "upper" => text.map(str::to_uppercase),
        "lower" => text.map(str::to_lowercase),
        "ucfirst" => first_letter(text, str::to_uppercase),
        "lcfirst" => first_letter(text, str::to_lowercase),
        "trim" => trimmed(text),
        "collapse" => collapsed(text),
        "null" => TaintedText::default(),
        "html_para" => lines::paragraphs(text),
        "html_break" | "html_para_break" => lines::breaks(text, true),
        "html_line_break" => lines::breaks(text, false),
        _ => return None,
    })
}

/// Percent-encodes a text. Special characters of user text are escaped first, so that decoding the URL does not bring
/// them back.
fn encoded(text: &TaintedText, allowed: &str) -> TaintedText {
    let mut result = TaintedText::default();
    for (piece, origin) in text.pieces() {
        let mut percent = String::new();
        for character in piece.chars() {
            let is_allowed = character.is_ascii_alphanumeric() || allowed.contains(character);
            let is_harmless = origin == CharacterOrigin::Template
                || character.is_alphanumeric()
                || " @._-~+/:=%".contains(character);
            if is_allowed && is_harmless {
                percent.push(character);
                continue;
            }
            let mut escaped = character.to_string();
            if !is_harmless {
                escaped.clear();
                write_piece(&character.to_string(), CharacterOrigin::User, &mut escaped);
            }
            for byte in escaped.bytes() {
                if byte.is_ascii_alphanumeric() || "-_.~".contains(char::from(byte)) {
                    percent.push(char::from(byte));
                } else {
                    let _ = write!(percent, "%{byte:02X}");
                }
            }
        }
        result.push(&percent, origin.min(CharacterOrigin::Encoded));
    }
    result
}

fn first_letter(text: &TaintedText, change: fn(&str) -> String) -> TaintedText {
    let first = text.slice(0..text.position(1));
    let mut result = first.map(change);
    result.push_text(&text.slice(first.len()..text.len()));
    result
}

fn trimmed(text: &TaintedText) -> TaintedText {
    let start = text.len() - text.as_str().trim_start().len();
    let end = text.as_str().trim_end().len();
    if start < end { text.slice(start..end) } else { TaintedText::default() }
}

/// Trims both ends, and replaces each other white space by one blank.
fn collapsed(text: &TaintedText) -> TaintedText {
    let mut result = TaintedText::default();
    let mut start = 0;
    for word in trimmed(text).as_str().split_whitespace() {
        let Some(at) = text.as_str().get(start..).and_then(|rest| rest.find(word)) else { break };
        let at = start + at;
        if !result.is_empty() {
            result.push(" ", text.slice(start..at).origin());
        }
        result.push_text(&text.slice(at..at + word.len()));
        start = at + word.len();
    }
    result
}

pub(super) fn repeated(
    interpreter: &mut Interpreter<'_>,
    text: &TaintedText,
    count: usize,
) -> Outcome<TaintedText> {
    let mut result = TaintedText::default();
    if text.is_empty() {
        return Ok(result);
    }
    interpreter.check_length(text.len().saturating_mul(count))?;
    interpreter.spend(text.steps().saturating_mul(count) / 4)?;
    for _ in 0..count {
        result.push_text(text);
    }
    Ok(result)
}
