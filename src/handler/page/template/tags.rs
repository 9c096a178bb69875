//! Splits a template into text and the insides of tags. Pure.

use super::number::is_space;

#[derive(Debug, Eq, PartialEq)]
pub(super) enum TemplatePiece<'t> {
    /// text outside of tags, after chomping
    Text { line: usize, text: String },
    /// the inside of a tag without flags, and its first line
    Directive { line: usize, inside: &'t str },
}

/// The effect of a tag on the white space beside it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ChompMode {
    Nothing,
    /// removes blanks and one line end
    Line,
    /// replaces all white space by one blank
    Collapse,
    /// removes all white space
    Greedy,
}

impl ChompMode {
    fn from_flag(flag: char) -> Option<Self> {
        match flag {
            '+' => Some(Self::Nothing),
            '-' => Some(Self::Line),
            '=' => Some(Self::Collapse),
            '~' => Some(Self::Greedy),
            _ => None,
        }
    }
}

/// The delimiters of tags. `TAGS` changes them for the rest of the template.
struct TagStyle {
    start: Vec<String>,
    end: Vec<String>,
    /// the prefix of a line that is one directive
    outline: Option<String>,
}

impl TagStyle {
    fn new(start: &[&str], end: &[&str], outline: Option<&str>) -> Self {
        let owned = |marks: &[&str]| marks.iter().map(|mark| (*mark).to_owned()).collect();
        Self { start: owned(start), end: owned(end), outline: outline.map(str::to_owned) }
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "default" | "template" | "tt2" => Self::new(&["[%"], &["%]"], None),
            "outline" => Self::new(&["[%"], &["%]"], Some("%%")),
            "template1" => Self::new(&["[%", "%%"], &["%]", "%%"], None),
            "metatext" => Self::new(&["%%"], &["%%"], None),
            "html" => Self::new(&["<!--"], &["-->"], None),
            "mason" => Self::new(&["<%"], &[">"], None),
            "asp" => Self::new(&["<%"], &["%>"], None),
            "php" => Self::new(&["<?"], &["?>"], None),
            "star" => Self::new(&["[*"], &["*]"], None),
            _ => return None,
        })
    }

    /// Changes the delimiters by the words of `TAGS`. An unknown name changes nothing.
    fn change(&mut self, words: &str) {
        let words: Vec<_> = words.split(is_space).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [start, end] => *self = Self::new(&[start], &[end], None),
            [start, end, outline, ..] => *self = Self::new(&[start], &[end], Some(outline)),
            [name] => {
                if let Some(style) = Self::named(name) {
                    *self = style;
                }
            }
            [] => (),
        }
    }

    /// The text before the next tag, its inside, and the rest. A tag without an end is text.
    fn split<'t>(&self, text: &'t str) -> Option<(&'t str, &'t str, &'t str)> {
        let outline = self.outline.as_deref().and_then(|mark| split_outline(text, mark));
        let tag = self.split_tag(text);
        match (outline, tag) {
            (Some(line), Some(tag)) => Some(if line.0.len() <= tag.0.len() { line } else { tag }),
            (line, tag) => line.or(tag),
        }
    }

    fn split_tag<'t>(&self, text: &'t str) -> Option<(&'t str, &'t str, &'t str)> {
        let (before, behind) = earliest(text, &self.start)?;
        let (inside, after) = earliest(behind, &self.end)?;
        Some((before, inside, after))
    }
}

/// The text before and behind the first of the marks.
fn earliest<'t>(text: &'t str, marks: &[String]) -> Option<(&'t str, &'t str)> {
    let found = marks.iter().filter_map(|mark| text.split_once(mark.as_str()));
    found.min_by_key(|(before, _)| before.len())
}

fn split_outline<'t>(text: &'t str, mark: &str) -> Option<(&'t str, &'t str, &'t str)> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(inside) = line.strip_prefix(mark) {
            let after = text.get(start + line.len()..)?;
            return Some((text.get(..start)?, inside.strip_suffix('\n').unwrap_or(inside), after));
        }
        start += line.len();
    }
    None
}

/// Splits a whole template.
pub(super) fn pieces(text: &str, defaults: [Option<char>; 2]) -> Vec<TemplatePiece<'_>> {
    let defaults = defaults.map(|flag| flag.and_then(ChompMode::from_flag).unwrap_or(ChompMode::Nothing));
    let mut style = TagStyle::new(&["[%"], &["%]"], None);
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut line = 1;
    let mut chomp = ChompMode::Nothing;
    while let Some((before, inside, after)) = style.split(rest) {
        let text_line = line;
        line += lines(before);
        let tag = Tag::read(inside, defaults);
        push_text(&mut pieces, text_line, &chomp_end(&chomp_start(before, chomp), tag.before));
        let leading = inside.len() - inside.trim_start_matches(['-', '+', '=', '~']).trim_start().len();
        let first_line = line + lines(inside.get(..leading).unwrap_or_default());
        if let Some(words) = tag.inside.strip_prefix("TAGS").filter(|words| words.starts_with(is_space)) {
            style.change(words.trim_start().lines().next().unwrap_or_default());
        } else if !tag.inside.is_empty() {
            pieces.push(TemplatePiece::Directive { line: first_line, inside: tag.inside });
        }
        line += text_lines_between(before, rest, after);
        chomp = tag.after;
        rest = after;
    }
    push_text(&mut pieces, line, &chomp_start(rest, chomp));
    pieces
}

/// The number of line ends in a tag.
fn text_lines_between(before: &str, rest: &str, after: &str) -> usize {
    lines(rest.get(before.len()..rest.len() - after.len()).unwrap_or_default())
}

fn push_text(pieces: &mut Vec<TemplatePiece<'_>>, line: usize, text: &str) {
    if !text.is_empty() {
        pieces.push(TemplatePiece::Text { line, text: text.to_owned() });
    }
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

struct Tag<'t> {
    before: ChompMode,
    inside: &'t str,
    after: ChompMode,
}

impl<'t> Tag<'t> {
    /// Reads the flags of a tag. `[%# … %]` is a comment, but its last flag counts.
    fn read(inside: &'t str, [default_before, default_after]: [ChompMode; 2]) -> Self {
        let is_comment = inside.starts_with('#');
        let (before, inside) = match inside.chars().next().and_then(ChompMode::from_flag) {
            Some(chomp) => (chomp, inside.get(1..).unwrap_or_default()),
            None if is_comment => (ChompMode::Nothing, inside),
            None => (default_before, inside),
        };
        let inside = inside.trim_matches(is_space);
        let (inside, after) = match inside.chars().next_back().and_then(ChompMode::from_flag) {
            Some(chomp) => (inside.get(..inside.len() - 1).unwrap_or_default(), chomp),
            None => (inside, default_after),
        };
        Self { before, inside: if is_comment { "" } else { inside.trim_end_matches(is_space) }, after }
    }
}

fn is_blank(character: char) -> bool {
    is_space(character) && character != '\n'
}

/// Chomps the text behind a tag.
fn chomp_start(text: &str, chomp: ChompMode) -> String {
    let trimmed = text.trim_start_matches(is_space);
    match chomp {
        ChompMode::Nothing => text.to_owned(),
        ChompMode::Line => text.trim_start_matches(is_blank).strip_prefix('\n').unwrap_or(text).to_owned(),
        ChompMode::Collapse if trimmed.len() < text.len() => format!(" {trimmed}"),
        ChompMode::Collapse | ChompMode::Greedy => trimmed.to_owned(),
    }
}

/// Chomps the text before a tag.
fn chomp_end(text: &str, chomp: ChompMode) -> String {
    let trimmed = text.trim_end_matches(is_space);
    match chomp {
        ChompMode::Nothing => text.to_owned(),
        ChompMode::Line => {
            let line = text.trim_end_matches(is_blank);
            match line.strip_suffix('\n') {
                Some(kept) => kept.strip_suffix('\r').unwrap_or(kept),
                None if line.is_empty() => "",
                None => text,
            }
            .to_owned()
        }
        ChompMode::Collapse if trimmed.len() < text.len() => format!("{trimmed} "),
        ChompMode::Collapse | ChompMode::Greedy => trimmed.to_owned(),
    }
}
