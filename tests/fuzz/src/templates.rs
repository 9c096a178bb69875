//! The language of pages: no value becomes markup, and no page costs more than it may.

use std::time::{Duration, Instant, SystemTime};

use nodegate::testing::config::VariableKind;
use nodegate::testing::handler::SanitizedValue;
use nodegate::testing::handler::{RenderError, RenderedTemplate, Template};

/// Bytes of a page that is rendered.
const MAX_PAGE_BYTES: usize = 4 << 20;
/// Far more than the most expensive page takes; what is measured is that there is a bound.
const LONGEST: Duration = Duration::from_secs(5);

/// Characters that no template of a case has, so each one in a page came from a value.
const FOREIGN: [char; 3] = ['\u{2028}', '\u{1f600}', '\u{7f}'];
/// Characters that end a string, an attribute or an element.
const MARKUP: &str = "'\"<>&`\\\n\r";

/// A value between foreign characters, so that a page shows where the value went.
fn hostile(name: &str, kind: usize) -> Option<SanitizedValue> {
    let [first, second, third] = FOREIGN;
    let raw = format!("{first}{MARKUP}{second}${{x}}[% y %]{MARKUP}{third}{name}");
    match kind {
        0 => SanitizedValue::new(VariableKind::User, &raw),
        1 => SanitizedValue::new(VariableKind::Encoded, &raw),
        2 => SanitizedValue::new(VariableKind::Word, "a.b_c~d+e-f"),
        3 => SanitizedValue::new(VariableKind::Token, "6B02:ab+/c="),
        4 => Some(SanitizedValue::empty()),
        _ => None,
    }
}

/// The kinds of values that variables have; each by the length of its name, so that a case has several.
fn render(template: &Template, shift: usize) -> Result<RenderedTemplate, RenderError> {
    template.render(&|name| hostile(name, (name.len() + shift) % 6), SystemTime::UNIX_EPOCH)
}

/// How often each character is in a text.
fn count(text: &str, character: char) -> usize {
    text.chars().filter(|it| *it == character).count()
}

pub(crate) fn template(bytes: &[u8]) {
    let Ok(template) = Template::parse(bytes) else { return };
    let source = String::from_utf8_lossy(bytes);
    for shift in 0..3 {
        let began = Instant::now();
        let page = render(&template, shift);
        assert!(began.elapsed() < LONGEST, "a page took {:?}", began.elapsed());
        assert_eq!(page, render(&template, shift), "the same values, another page");
        let Ok(page) = page else { continue };
        assert!(page.page.len() <= MAX_PAGE_BYTES, "{} bytes", page.page.len());
        for character in FOREIGN.into_iter().filter(|it| !source.contains(*it)) {
            assert_eq!(count(&page.page, character), 0, "{character:?} of a value is in the page as it was");
        }
    }
    as_markup(&template, &source);
}

/// A character of markup that the template has not is in no page, for any values. A template may make characters by
/// number, so such a template is not verified.
fn as_markup(template: &Template, source: &str) {
    let makes_characters = ["format", "%", "uri", "url", "chr", "repeat"];
    let source_has = |it: char| source.contains(it);
    let tags: String = source.replace("[%", "").replace("%]", "");
    if makes_characters.iter().any(|word| tags.contains(word)) {
        return;
    }
    let values = |name: &str| hostile(name, 0);
    let Ok(page) = template.render(&values, SystemTime::UNIX_EPOCH) else { return };
    for character in "<>`&\"'".chars().filter(|it| !source_has(*it)) {
        let made_by_filter = source.contains("html") || source.contains("xml") || source.contains("quote");
        if !made_by_filter {
            assert_eq!(count(&page.page, character), 0, "{character:?} became markup: {:?}", page.page);
        }
    }
}
