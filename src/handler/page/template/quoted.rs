//! Escapes and variables in quoted text. Pure.

use super::lexer::{QuotedPart, is_word, tokens};
use super::{TemplateError, TemplateSyntax};

/// Unescapes `'…'`, where only `\'` and `\\` are escapes.
pub(super) fn unescape_single(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped =
            if character == '\\' { characters.next_if(|next| *next == '\\' || *next == '\'') } else { None };
        plain.push(escaped.unwrap_or(character));
    }
    plain
}

/// Unescapes `"…"`: removes each backslash except in `\$`, then replaces `
/// `, `\r` and `\t`, also those from `\
/// `.
pub(super) fn unescape_double(text: &str) -> String {
    let mut once = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let kept = if character == '\\' { characters.next_if(|next| !"$nrt".contains(*next)) } else { None };
        once.push(kept.unwrap_or(character));
    }
    once.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")
}

/// Splits a text at `$name.name` and `${ … }`. Any other `$` is removed.
pub(super) fn interpolated(
    text: &str,
    line: usize,
    syntax: TemplateSyntax,
) -> Result<Vec<QuotedPart>, TemplateError> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = rest.get(character.len_utf8()..).unwrap_or_default();
        match character {
            '\\' => {
                let escaped = rest.chars().next();
                if escaped != Some('$') {
                    plain.push('\\');
                }
                plain.extend(escaped);
                rest = rest.get(escaped.map_or(0, char::len_utf8)..).unwrap_or_default();
            }
            '$' => {
                let braced = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
                let end = rest.find(|c| !is_word(c) && c != '.').unwrap_or(rest.len());
                let (variable, after) =
                    braced.unwrap_or_else(|| rest.split_at_checked(end).unwrap_or((rest, "")));
                rest = after;
                if !matches!(variable, "" | "0") {
                    if !plain.is_empty() {
                        parts.push(QuotedPart::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(QuotedPart::Variable(tokens(variable, line, syntax)?));
                } else if braced.is_some() || !variable.is_empty() {
                    plain.push_str(if braced.is_some() { "${" } else { "$" });
                    plain.push_str(variable);
                    plain.push_str(if braced.is_some() { "}" } else { "" });
                }
            }
            _ => plain.push(character),
        }
    }
    if !plain.is_empty() {
        parts.push(QuotedPart::Text(plain));
    }
    Ok(parts)
}
