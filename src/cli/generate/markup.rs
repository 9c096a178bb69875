//! The little Markdown of texts that `--help`, the documentation and the manual pages share.

use clap_mangen::roff::{Inline, bold, roman};

/// Markdown's code becomes bold, a link its text and its page. `*Name*` is a section of the same page.
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
        && let Some((target, after)) = link.split_once(')')
        && let Some((before, name)) = before.rsplit_once('[')
    {
        plain.push_str(before);
        plain.push_str(name);
        plain.push_str(&place(target));
        rest = after;
    }
    plain + rest
}

/// The page that a link of `docs/reference/` leads to, in brackets. Sections of the same page and addresses have none.
fn place(target: &str) -> String {
    let page = target.split('#').next().unwrap_or_default();
    match page.strip_prefix("../") {
        _ if page.is_empty() || page.contains("://") => String::new(),
        Some(page) => format!(" (docs/{page})"),
        None => format!(" (docs/reference/{page})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_becomes_its_text() {
        let text = "a [b](c.md), [d](#e), [f](../g/h.md#i) j";
        assert_eq!(without_links(text), "a b (docs/reference/c.md), d, f (docs/g/h.md) j");
        assert_eq!(without_links("[product] x, see [y](https://z)"), "[product] x, see y");
        assert_eq!(without_links("`[::1]:80` [product"), "`[::1]:80` [product");
    }

    #[test]
    fn emphasis_becomes_quotes_and_code_keeps_asterisks() {
        let expected = vec![roman("see \"Lists\", "), bold("*.example.com"), roman(" or 2 * 3")];
        assert_eq!(marked_up("see *Lists*, `*.example.com` or 2 * 3"), expected);
    }
}
