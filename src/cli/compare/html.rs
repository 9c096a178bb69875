//! A page as a value: elements by name and number, attributes by name. The order of attributes is gone.

use std::collections::HashMap;

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};
use serde_json::{Map, Value};

use super::secrets::SecretMask;

/// Limit of nested elements; deeper ones count as siblings.
const MAX_DEPTH: usize = 100;
/// Elements that have no end (HTML, 13.1.2).
const VOID: [&str; 14] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];

/// An element that is not closed yet.
#[derive(Default)]
struct OpenElement {
    name: String,
    contents: Map<String, Value>,
    counts: HashMap<String, usize>,
}

/// Secrets are masked before the comparison: a page holds tokens that are made for each request.
pub(crate) fn page(text: &str, secrets: &SecretMask) -> Value {
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let mut open = vec![OpenElement::default()];
    let mut words = String::new();
    for token in Tokenizer::new_with_emitter(text, emitter) {
        let Ok(token) = token;
        if let Token::String(text) = &token {
            words += &String::from_utf8_lossy(text);
            continue;
        }
        add_text(&mut open, &std::mem::take(&mut words), secrets);
        match token {
            Token::StartTag(tag) => start(&mut open, &tag, secrets),
            Token::EndTag(tag) => end(&mut open, &String::from_utf8_lossy(&tag.name)),
            Token::Comment(text) => {
                add(&mut open, "comment", masked(&String::from_utf8_lossy(&text), secrets));
            }
            Token::Doctype(doctype) => {
                add(&mut open, "doctype", Value::from(String::from_utf8_lossy(&doctype.name)));
            }
            Token::String(_) | Token::Error(_) => (),
        }
    }
    add_text(&mut open, &words, secrets);
    while open.len() > 1 {
        close(&mut open);
    }
    Value::Object(open.pop().unwrap_or_default().contents)
}

/// All words of a page, sorted: the same for two pages that show the items of a list in another order.
pub(crate) fn words(page: &Value) -> Vec<String> {
    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::String(text) => {
                let is_separator = |c: char| !c.is_alphanumeric() && !"._-:@!%+".contains(c);
                into.extend(text.split(is_separator).filter(|word| !word.is_empty()).map(str::to_owned));
            }
            Value::Object(fields) => fields.values().for_each(|value| collect(value, into)),
            Value::Array(items) => items.iter().for_each(|value| collect(value, into)),
            Value::Null | Value::Bool(_) | Value::Number(_) => (),
        }
    }
    let mut words = Vec::new();
    collect(page, &mut words);
    words.sort_unstable();
    words
}

fn start(open: &mut Vec<OpenElement>, tag: &StartTag<()>, secrets: &SecretMask) {
    let name = String::from_utf8_lossy(&tag.name).into_owned();
    let attributes = tag.attributes.iter().map(|(name, value)| {
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        let value = if secrets.is_secret_name(&name) { Value::from("***") } else { masked(&value, secrets) };
        (format!("@{name}"), value)
    });
    let is_void = tag.self_closing || VOID.contains(&name.as_str());
    open.push(OpenElement { contents: attributes.collect(), name, counts: HashMap::new() });
    if is_void || open.len() > MAX_DEPTH {
        close(open);
    }
}

/// An end tag that closes no element is ignored.
fn end(open: &mut Vec<OpenElement>, name: &str) {
    if let Some(depth) = open.iter().skip(1).rposition(|element| element.name == name) {
        while open.len() > depth + 1 {
            close(open);
        }
    }
}

fn close(open: &mut Vec<OpenElement>) {
    if let Some(element) = open.pop() {
        add(open, &element.name, Value::Object(element.contents));
    }
}

fn add_text(open: &mut [OpenElement], text: &str, secrets: &SecretMask) {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if !text.is_empty() {
        add(open, "text", masked(&text, secrets));
    }
}

fn add(open: &mut [OpenElement], name: &str, value: Value) {
    if let Some(parent) = open.last_mut() {
        let count = parent.counts.entry(name.to_owned()).or_default();
        parent.contents.insert(format!("{name}[{count}]"), value);
        *count += 1;
    }
}

fn masked(text: &str, secrets: &SecretMask) -> Value {
    Value::from(secrets.mask(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::structure::{UnorderedLists, differences};
    use super::*;

    fn read(text: &str) -> Value {
        page(text, &SecretMask::new().unwrap())
    }

    #[test]
    fn attributes_have_no_order_and_elements_do() {
        let one = read("<p class='a' id=b>x</p><br><p>y</p>");
        assert_eq!(one, read("<p id='b'  class=\"a\">x</p>\n<br/><p> y </p>"));
        assert_ne!(one, read("<p>y</p><br><p id=b class=a>x</p>"));
        assert_eq!(one["p[0]"], json!({"@class": "a", "@id": "b", "text[0]": "x"}));
    }

    #[test]
    fn a_difference_is_named_by_its_element() {
        let one = read("<html><body><div><a href=/x>up</a><li>1<li>2</div></body></html>");
        let other = read("<html><body><div><a href=/y>up</a><li>1<li>3</div></body></html>");
        let found = differences(&one, &other, &UnorderedLists::new());
        let paths: Vec<_> = found.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(
            paths,
            ["html[0].body[0].div[0].a[0].@href", "html[0].body[0].div[0].li[0].li[0].text[0]",]
        );
    }

    #[test]
    fn items_in_another_order_have_the_same_words() {
        let one = read("<ul><li><a href='/n/1'>n1</a></li><li>n2 is up</li></ul>");
        let other = read("<ul><li>n2 is up</li><li><a href='/n/1'>n1</a></li></ul>");
        assert_ne!(one, other);
        assert_eq!(words(&one), words(&other));
        assert_ne!(words(&one), words(&read("<ul><li>n2 is up</li><li><a href='/n/2'>n1</a></li></ul>")));
    }

    #[test]
    fn scripts_are_text_and_their_tokens_masked() {
        let token = "65F0AAAA:c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2V";
        let script = |token: &str| format!("<script>if (a<b) {{ Token = '{token}'; }}</script>");
        let one = read(&script(token));
        assert!(one["script[0]"]["text[0]"].as_str().unwrap().starts_with("if (a<b)"));
        assert_eq!(one, read(&script(&token.replace("65F0AAAA", "65F0AAAB"))));
    }

    #[test]
    fn malformed_pages_are_read_to_their_end() {
        let deep = "<div>".repeat(10_000) + "x";
        assert!(read(&deep).is_object());
        for text in ["", "</p>", "<", "<p", "<!--", "<a b", "<script>", "&#x;", "\u{0}<\u{0}>"] {
            assert!(read(text).is_object(), "{text}");
        }
    }
}
