//! Markup with escaped values. Only literals become markup, so a value cannot.

use std::fmt::{self, Display, Write as _};

/// A part of a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Html(String);

/// A column of a table.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) label: &'static str,
    pub(super) is_number: bool,
}

/// Writes text with the characters escaped that have a meaning in HTML.
struct Escaped<'s>(&'s mut String);

impl Html {
    pub(super) fn of(value: impl Display) -> Self {
        let mut html = Self::default();
        html.text(value);
        html
    }

    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// A value, within an element or a quoted attribute.
    pub(super) fn text(&mut self, value: impl Display) -> &mut Self {
        let _ = write!(Escaped(&mut self.0), "{value}");
        self
    }

    pub(super) fn add(&mut self, other: &Self) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }

    /// A value that a client chose: its direction of writing ends with it.
    pub(super) fn foreign(&mut self, value: impl Display) -> &mut Self {
        self.raw("<bdi>").text(value).raw("</bdi>")
    }

    /// A table. The first cell of a row is its header. A narrow screen shows each row as a list, so the roles are
    /// explicit: another `display` would take them away.
    pub(super) fn table(&mut self, caption: &str, columns: &[Column], rows: &[Vec<Html>]) -> &mut Self {
        self.raw("<table role=\"table\"><caption>").text(caption).raw("</caption><thead role=\"rowgroup\">");
        self.raw("<tr role=\"row\">");
        for column in columns {
            self.raw("<th role=\"columnheader\" scope=\"col\"").class(*column).raw(">");
            self.text(column.label).raw("</th>");
        }
        self.raw("</tr></thead><tbody role=\"rowgroup\">");
        for row in rows {
            self.raw("<tr role=\"row\">");
            for (number, (column, cell)) in columns.iter().zip(row).enumerate() {
                let (start, end) = match number {
                    0 => ("<th role=\"rowheader\" scope=\"row\" data-label=\"", "</th>"),
                    _ => ("<td role=\"cell\" data-label=\"", "</td>"),
                };
                self.raw(start).text(column.label).raw("\"").class(*column).raw("><span>");
                self.add(cell).raw("</span>").raw(end);
            }
            self.raw("</tr>");
        }
        self.raw("</tbody></table>")
    }

    fn class(&mut self, column: Column) -> &mut Self {
        self.raw(if column.is_number { " class=\"number\"" } else { "" })
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl Column {
    pub(super) const fn text(label: &'static str) -> Self {
        Self { label, is_number: false }
    }

    pub(super) const fn number(label: &'static str) -> Self {
        Self { label, is_number: true }
    }
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                _ if c.is_control() || is_direction(c) => self.0.push(char::REPLACEMENT_CHARACTER),
                _ => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// Characters that change the direction of the text after them (UAX #9).
fn is_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_becomes_markup() {
        let hostile = "<script>alert(1)</script>\"' onload=x &lt; \u{202e}\u{0}\r\n";
        let html = Html::of(hostile).into_string();
        assert_eq!(
            html,
            "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39; onload=x &amp;lt; \u{fffd}\u{fffd}\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn a_table_has_a_caption_and_headers() {
        let mut html = Html::default();
        let columns = [Column::text("Name"), Column::number("Bytes")];
        html.table("Files", &columns, &[vec![Html::of("<a>"), Html::of(7)]]);
        let html = html.into_string();
        for part in [
            "<caption>Files</caption>",
            "<th role=\"columnheader\" scope=\"col\" class=\"number\">Bytes</th>",
            "<th role=\"rowheader\" scope=\"row\" data-label=\"Name\"><span>&lt;a&gt;</span></th>",
            "<td role=\"cell\" data-label=\"Bytes\" class=\"number\"><span>7</span></td>",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
    }
}
