//! Generated templates with hostile values: no construct lets a value become markup or script.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use std::time::SystemTime;

use nodegate::config::page::Kind;
use nodegate::handler::page::sanitized::Sanitized;
use nodegate::handler::page::template::Template;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Parts of values that would mean something if they got into a page as they are.
const HOSTILE: &[&str] = &[
    "'",
    "\"",
    "<",
    ">",
    "&",
    "\\",
    "`",
    "</script>",
    "<svg onload=alert(1)>",
    "\n",
    "\r",
    "\u{2028}",
    "${x}",
    "u0027",
    "\\u003c",
    "%27",
    "%3C",
    "&#39;",
    "-->",
    "[% x %]",
    "$1",
    "\0",
    "ü",
    "a",
    "Z",
    "0",
    ".",
    "@",
    " ",
    "//",
    "u003c",
];

/// Methods and filters whose arguments may try to decode, to cut, or to put something in.
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
    ".substr(1, 2, '<')",
    ".replace('u', '')",
    ".replace('\\\\\\\\', '')",
    ".replace('a', '<b>')",
    ".replace('(.)', '<$1>')",
    ".replace('^', '\"')",
    ".replace('$', '\\'')",
    ".replace('', '&')",
    ".remove('u00')",
    ".remove('.$')",
    ".split('').join('')",
    ".split('u').join('<')",
    ".chunk(2).join('\"')",
    ".chunk(-1).first",
    ".chunk(1).last",
    ".match('(.)').0",
    ".match('(.+)', 1).join('`')",
    ".list.join('<')",
    ".split('').reverse.join('')",
    ".split('').unique.sort.join(\"'\")",
    ".split('', 2).last",
    ".hash.keys.join",
    ".list.hash.keys.join('<')",
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
    "indent('<')",
    "truncate(3)",
    "truncate(4, '<')",
    "repeat(2)",
    "replace('a', '<b>')",
    "replace('.', '\"')",
    "replace('u00', '')",
    "remove('u')",
    "format('<%s>')",
    "format('%.1s')",
    "format('%-3s')",
    "html_para_break",
    "html_line_break",
    "replace('$', '>')",
];
/// Filters that change each character by itself, so they may stand around markup.
const LOCAL_FILTERS: &[&str] = &["html", "html_entity", "xml", "upper", "lower", "uri", "null"];

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

/// What a template writes of a value.
fn output() -> impl Strategy<Value = String> {
    let methods = prop::collection::vec(prop::sample::select(METHODS), 0..4);
    let filters = prop::collection::vec(prop::sample::select(FILTERS), 0..3);
    (expression(), methods, filters, 0_usize..8).prop_map(|(expression, methods, filters, form)| {
        let methods = methods.concat();
        let filters: String = filters.iter().map(|filter| format!(" | {filter}")).collect();
        let written = format!("[% v = {expression}; v{methods}{filters} %]");
        match form {
            0 => format!("[% v = {expression}; FOREACH v IN [v]; v{methods}{filters}; END %]"),
            1 => format!("[% h = {{ k => {expression} }}; h.k{methods}{filters} %]"),
            2 => format!("[% h = {{}}; k = {expression}; h.$k = 'v'; h.keys.0{filters} %]"),
            3 => format!("[% MACRO m(v) GET v{methods}; m({expression}){filters} %]"),
            4 => format!("[% v = BLOCK %]{written}[% END; v{methods} %]"),
            5 => format!("[% DEFAULT q = {expression}; q{methods}{filters} %]"),
            6 => format!("[% TRY; THROW a {expression}; CATCH; error.info{filters}; error; END %]"),
            _ => written,
        }
    })
}

fn template() -> impl Strategy<Value = String> {
    let place = prop::sample::select(
        &[
            ("<b title=\"", "\">"),
            ("<script>x = '", "';</script>"),
            ("<a href='?", "'>"),
            ("<p>", "</p>"),
            ("<!-- ", " -->"),
            ("\n`", "`"),
        ][..],
    );
    let piece = (place, output()).prop_map(|((before, after), output)| format!("{before}{output}{after}"));
    let piece = piece.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (prop::sample::select(LOCAL_FILTERS), inner.clone())
                .prop_map(|(filter, inner)| format!("[% FILTER {filter} %]{inner}[% END %]")),
            inner.clone().prop_map(|inner| format!("[% WRAPPER around t = x %]{inner}[% END %]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a + &b),
            inner.prop_map(|inner| format!("[% IF 1; BLOCK; %]{inner}[% END; END %]")),
        ]
    });
    piece.prop_map(|piece| format!("{piece}[% BLOCK around %]<i>[% t %]</i>[% content %][% END %]"))
}

/// Characters that make up the structure of a page; escapes of the values do not count.
fn structure(page: &str) -> String {
    let mut structure = String::new();
    let mut rest = page;
    while let Some(character) = rest.chars().next() {
        let after = rest.get(character.len_utf8()..).unwrap_or_default();
        let digits = after.get(1..5).filter(|_| character == '\\' && after.starts_with('u'));
        if digits.is_some_and(|digits| digits.bytes().all(|byte| b"0123456789abcdef".contains(&byte))) {
            rest = after.get(5..).unwrap_or_default();
            continue;
        }
        if "'\"<>&\\`\n\r\u{2028}\u{2029}\0${}()[]".contains(character) {
            structure.push(character);
        }
        rest = after;
    }
    structure
}

fn rendered(template: &Template, user: &str) -> Option<String> {
    let value = |name: &str| match name {
        "x" => Sanitized::new(Kind::User, user),
        "w" => Sanitized::new(Kind::Word, "de_DE"),
        _ => None,
    };
    template.render(&value, SystemTime::UNIX_EPOCH).ok()
}

#[test]
fn no_value_changes_the_structure_of_a_page() {
    let hostile = prop::collection::vec(prop::sample::select(HOSTILE), 1..8).prop_map(|parts| parts.concat());
    let config = Config { cases: 4000, failure_persistence: None, ..Config::default() };
    let compared = std::cell::Cell::new(0);
    let result = TestRunner::new(config).run(&(template(), hostile), |(text, hostile)| {
        let template =
            Template::parse(text.as_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        // a value that is as long, so that what is cut and counted is the same
        let harmless = "m".repeat(hostile.chars().count());
        if let (Some(page), Some(plain)) = (rendered(&template, &hostile), rendered(&template, &harmless)) {
            compared.set(compared.get() + 1);
            prop_assert_eq!(
                structure(&page),
                structure(&plain),
                "{}\n{:?}\n{}\n{}",
                text,
                hostile,
                page,
                plain
            );
        }
        Ok(())
    });
    result.unwrap();
    assert!(compared.get() > 3500, "{} templates were compared", compared.get());
}
