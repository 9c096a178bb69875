//! The little Markdown of texts that `--help`, the documentation and the manual pages share.

use clap_mangen::roff::{Inline, bold, roman};

/// Markdown's code becomes bold, a link its text. `*Name*` is a section of the same page.
pub(super) fn marked_up(text: &str) -> Vec<Inline> {
    let text = without_links(text);
    let pieces = text.split('`').enumerate();
    pieces.map(|(number, piece)| if number % 2 == 1 { bold(piece) } else { roman(quoted(piece)) }).collect()
}

/// Emphasis becomes quotes. Other asterisks stay.
fn quoted(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('*')
        && let Some((name, after)) = behind.split_once('*')
    {
        plain.extend([before, "\"", name, "\""]);
        rest = after;
    }
    plain + rest
}

fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("](")
        && let Some((_, after)) = link.split_once(')')
        && let Some((before, name)) = before.rsplit_once('[')
    {
        plain.push_str(before);
        plain.push_str(name);
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_becomes_its_text() {
        assert_eq!(without_links("a [b](c.md), [d](e) f"), "a b, d f");
        assert_eq!(without_links("[product] x, see [y](z)"), "[product] x, see y");
        assert_eq!(without_links("`[::1]:80` [product"), "`[::1]:80` [product");
    }

    #[test]
    fn emphasis_becomes_quotes_and_code_keeps_asterisks() {
        let expected = vec![roman("see \"Lists\", "), bold("*.example.com"), roman(" or 2 * 3")];
        assert_eq!(marked_up("see *Lists*, `*.example.com` or 2 * 3"), expected);
    }
}
