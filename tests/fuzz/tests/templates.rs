//! Generated templates with hostile values: no construct lets a value become markup or script.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use std::cell::Cell;
use std::time::SystemTime;

use nodegate::testing::config::VariableKind;
use nodegate::testing::handler::SanitizedValue;
use nodegate::testing::handler::Template;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// The characters of values, and those that templates put in (`Q`). Both sets mean something in a page and share no
/// character, so a page that holds one of the first set unescaped got it from a value.
struct Alphabets {
    hostile: &'static [&'static str],
    forbidden: &'static str,
    inserted: &'static str,
    places: &'static [(&'static str, &'static str)],
}

const QUOTES: Alphabets = Alphabets {
    hostile: &[
        "'", "`", "\\", "\n", "\r", "\u{2028}", "${x}", "\\u0027", "u0027", "\0", "%27", "$1", "a", "u", "0",
        ".",
    ],
    forbidden: "'`\\\n\r\u{2028}\0${}",
    inserted: "<",
    places: &[("<b title=\"", "\">"), ("<script>x = \"", "\";</script>"), ("<p>", "</p>")],
};
const MARKUP: Alphabets = Alphabets {
    hostile: &[
        "<",
        ">",
        "\"",
        "</script>",
        "<svg onload=alert(1)>",
        "\\u003c",
        "u003c",
        "%3C",
        "-->",
        "[% x %]",
        "a",
        "u",
        "0",
    ],
    forbidden: "<>\"[",
    inserted: "'",
    places: &[("x = '", "';"), ("`", "`"), ("f('", "', `x`)")],
};

/// Methods and filters that may decode, cut, or put something in.
const METHODS: &[&str] = &[
    ".upper",
    ".lower",
    ".ucfirst",
    ".lcfirst",
    ".trim",
    ".collapse",
    ".html",
    ".xml",
    ".squote",
    ".dquote",
    ".item",
    ".list.0",
    ".hash.value",
    ".repeat(2)",
    ".substr(0, 1)",
    ".substr(1)",
    ".substr(-2)",
    ".substr(1, 2, \"Q\")",
    ".replace('u', '')",
    ".replace('a', \"Q\")",
    ".replace('(.)', \"Q\\$1Q\")",
    ".replace('^', \"Q\")",
    ".replace('$', \"Q\")",
    ".replace('', \"Q\")",
    ".replace('u00', \"Q\")",
    ".remove('u00')",
    ".remove('.$')",
    ".split('').join('')",
    ".split('u').join(\"Q\")",
    ".chunk(2).join(\"Q\")",
    ".chunk(-1).first",
    ".chunk(1).last",
    ".match('(.)').0",
    ".match('(.+)', 1).join(\"Q\")",
    ".list.join(\"Q\")",
    ".split('').reverse.join('')",
    ".split('').unique.sort.join(\"Q\")",
    ".split('', 2).last",
    ".hash.keys.join",
    ".list.hash.keys.join(\"Q\")",
    ".length",
    ".list.slice(-3).join(\"Q\")",
    ".list.first(2).join(\"Q\")",
    ".split('').slice(0, 1).join(\"Q\")",
];
const FILTERS: &[&str] = &[
    "html",
    "html_entity",
    "xml",
    "uri",
    "url",
    "upper",
    "lower",
    "ucfirst",
    "lcfirst",
    "trim",
    "collapse",
    "indent",
    "indent(\"Q\")",
    "truncate(3)",
    "truncate(4, \"Q\")",
    "repeat(2)",
    "replace('a', \"Q\")",
    "replace('.', \"Q\")",
    "replace('u00', '')",
    "remove('u')",
    "format(\"Q%sQ\")",
    "format('%.1s')",
    "format('%-3s')",
    "format('%c')",
    "format(\"%5cQ\")",
    "format('%04d%%')",
    "html_para_break",
    "html_line_break",
    "replace('$', \"Q\")",
];

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => Just("x".to_owned()),
        1 => Just("w".to_owned()),
        1 => Just("\"$x\"".to_owned()),
        1 => Just("\"a${x}b\"".to_owned()),
    ];
    leaf.prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} _ {b})")),
            inner.clone().prop_map(|a| format!("(a = {a})")),
            inner.clone().prop_map(|a| format!("(1 ? {a} : 'z')")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a} _ 'mid' _ {b})")),
        ]
    })
}

/// The text that a template writes for a value.
fn output() -> impl Strategy<Value = String> {
    let methods = prop::collection::vec(prop::sample::select(METHODS), 0..4);
    let filters = prop::collection::vec(prop::sample::select(FILTERS), 0..3);
    (expression(), methods, filters, 0_usize..12).prop_map(|(expression, methods, filters, form)| {
        let methods = methods.concat();
        let filters = filters.iter().map(|filter| [" | ", filter].concat()).collect::<Vec<_>>().concat();
        let written = format!("[% v = {expression}; v{methods}{filters} %]");
        match form {
            0 => format!("[% v = {expression}; FOREACH v IN [v]; v{methods}{filters}; END %]"),
            1 => format!("[% h = {{ k => {expression} }}; h.k{methods}{filters} %]"),
            2 => format!("[% h = {{}}; k = {expression}; h.$k = 'v'; h.keys.0{filters} %]"),
            3 => format!("[% MACRO m(v) GET v{methods}; m({expression}){filters} %]"),
            4 => format!("[% v = BLOCK %]{written}[% END; v{methods} %]"),
            5 => format!("[% DEFAULT q = {expression}; q{methods}{filters} %]"),
            6 => format!("[% TRY; THROW a {expression}; CATCH; error.info{filters}; error; END %]"),
            7 => format!(
                "[% USE date; TRY; date.format({expression}); CATCH; error.info.split(\"got: .\").last.substr(0, -1){filters}; error.type; END %]"
            ),
            8 => format!("[% USE date; TRY; date.format(0, {expression}); CATCH; error; END %]"),
            9 => format!(
                "[% TRY; TRY; THROW $x {expression}; CATCH; THROW b error; END; CATCH; error{filters}; END %]"
            ),
            10 => format!("[% n = {expression} + 39; n | format('%c'); v = n; v{methods} %]"),
            _ => written,
        }
    })
}

fn template(alphabets: &'static Alphabets) -> impl Strategy<Value = String> {
    let piece = (prop::sample::select(alphabets.places), output())
        .prop_map(|((before, after), output)| format!("{before}{output}{after}"));
    let piece = piece.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (prop::sample::select(FILTERS), inner.clone())
                .prop_map(|(filter, inner)| format!("[% FILTER {filter} %]{inner}[% END %]")),
            inner.clone().prop_map(|inner| format!("[% WRAPPER around t = x %]{inner}[% END %]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a + &b),
            inner.prop_map(|inner| format!("[% IF 1; BLOCK; %]{inner}[% END; END %]")),
        ]
    });
    piece.prop_map(|piece| {
        let text = format!("{piece}[% BLOCK around %](Q[% t %]Q)[% content %][% END %]");
        text.replace('Q', alphabets.inserted)
    })
}

/// The page without the escapes of values.
fn unescaped(page: &str) -> String {
    let mut kept = String::new();
    let mut rest = page;
    while let Some(character) = rest.chars().next() {
        let after = rest.get(character.len_utf8()..).unwrap_or_default();
        let digits = after.get(1..5).filter(|_| character == '\\' && after.starts_with('u'));
        if digits.is_some_and(|digits| digits.bytes().all(|byte| b"0123456789abcdef".contains(&byte))) {
            rest = after.get(5..).unwrap_or_default();
        } else {
            kept.push(character);
            rest = after;
        }
    }
    kept
}

fn rendered(template: &Template, user: &str) -> Option<String> {
    let value = |name: &str| match name {
        "x" => SanitizedValue::new(VariableKind::User, user),
        "w" => SanitizedValue::new(VariableKind::Word, "de_DE"),
        _ => None,
    };
    template.render(&value, SystemTime::UNIX_EPOCH).map(|rendered| rendered.page).ok()
}

fn no_character_gets_through(alphabets: &'static Alphabets) {
    let hostile =
        prop::collection::vec(prop::sample::select(alphabets.hostile), 1..8).prop_map(|parts| parts.concat());
    let config = Config { cases: 4000, failure_persistence: None, ..Config::default() };
    let count = Cell::new(0);
    let result = TestRunner::new(config).run(&(template(alphabets), hostile), |(text, hostile)| {
        let template =
            Template::parse(text.as_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        if let Some(page) = rendered(&template, &hostile) {
            count.set(count.get() + 1);
            let page = unescaped(&page);
            let found = page.chars().find(|character| alphabets.forbidden.contains(*character));
            prop_assert_eq!(found, None, "{}\n{:?}\n{}", text, hostile, page);
        }
        Ok(())
    });
    result.unwrap();
    assert!(count.get() > 3500, "{} templates were rendered", count.get());
}

#[test]
fn quotes_in_values_stay_out_of_pages() {
    no_character_gets_through(&QUOTES);
}

#[test]
fn markup_in_values_stays_out_of_pages() {
    no_character_gets_through(&MARKUP);
}
