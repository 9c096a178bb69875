#![allow(clippy::unwrap_used, clippy::panic, clippy::format_push_string)]

use std::time::{Duration, SystemTime};

use super::Template;
use crate::config::page::Kind;
use crate::handler::page::sanitized::Sanitized;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn rendered(template: &str, pairs: &[(&str, &str)]) -> String {
    try_render(template, pairs).unwrap_or_else(|error| panic!("{template}: {error}"))
}

/// The page, or why there is none.
fn try_render(template: &str, pairs: &[(&str, &str)]) -> Result<String, String> {
    let parsed = Template::parse(template.as_bytes()).map_err(|error| error.to_string())?;
    let value = |name: &str| {
        let (_, value) = pairs.iter().find(|(known, _)| *known == name)?;
        Sanitized::new(Kind::Token, value)
    };
    parsed.render(&value, now()).map(|rendered| rendered.page).map_err(|error| error.to_string())
}

fn error(template: &str) -> String {
    try_render(template, &[("x", "X")]).err().unwrap_or_else(|| panic!("{template} was rendered"))
}

#[test]
fn templates_are_rendered_as_template_toolkit_renders_them() {
    let cases: Vec<(String, String)> =
        serde_json::from_str(include_str!("../../../../tests/data/templates/cases.json")).unwrap();
    assert!(cases.len() > 300);
    for (template, page) in cases {
        assert_eq!(rendered(&template, &[("x", "X"), ("y", "0"), ("z", "z-1")]), page, "{template}");
    }
}

/// The page is UTF-8 and needs no names for what UTF-8 can say.
#[test]
fn entities_replace_only_characters_of_markup() {
    assert_eq!(rendered("[% '<é>' | html_entity %]", &[]), "&lt;é&gt;");
}

#[test]
fn dates_are_seconds_or_formatted_text() {
    let cases = [
        ("[% USE date; date.now %]", "1700000000"),
        ("[% USE d = date; d.format(d.now, '%Y-%m-%d %H:%M:%S', gmt = 1) %]", "2023-11-14 22:13:20"),
        ("[% USE date(format = '%Y', gmt = 1); date.format(86400) %]", "1970"),
        ("[% USE date(gmt = 1); date.format(0, '%d.%m.%y') == date.format(date.now, '%d.%m.%y') %]", "1"),
        ("[% USE date; date.format('6:7:8 9-10-2011', '%Y/%m/%d %k') %]", "2011/10/09  6"),
        ("[% USE date; date.format('2011-10-09 06:07:08', '%a %b %e %H:%M') %]", "Sun Oct  9 06:07"),
        ("[% USE date; TRY; date.format('soon'); CATCH date; error.type; END %]", "date"),
    ];
    for (template, page) in cases {
        assert_eq!(rendered(template, &[]), page, "{template}");
    }
}

#[test]
fn refused_constructs_are_named_with_their_line() {
    let cases = [
        ("\n\n[% PERL %]print 1;[% END %]", "line 3: 'PERL' runs Perl"),
        ("[% RAWPERL %]print 1;[% END %]", "line 1: 'RAWPERL' runs Perl"),
        ("[% INSERT '/etc/passwd' %]", "line 1: 'INSERT' reads a file"),
        ("[% INCLUDE other.tt %]", "line 1: 'other.tt' is no block of this file, and files are not included"),
        (
            "[% IF x %]\n[% PROCESS \"a/b\" %][% END %]",
            "line 2: 'a/b' is no block of this file, and files are not included",
        ),
        ("\n[% name = x; INCLUDE $name %]", "line 2: 'X' is no block of this file"),
        ("[% USE CGI %]", "line 1: the plugin 'CGI' is not supported"),
        ("[% USE table([1,2]) %]", "line 1: the plugin 'table' is not supported"),
        ("[% USE date; date.calc %]", "line 1: the method 'calc' of a date is not supported"),
        ("[% USE date; date.format(0, '%Q') %]", "line 1: the date format '%Q' is not supported"),
        ("[% VIEW v %][% END %]", "line 1: 'VIEW' is not supported"),
        ("[% x | eval %]", "line 1: the filter 'eval' is not supported"),
        ("[% x | perl %]", "line 1: the filter 'perl' is not supported"),
        ("[% x | redirect('/etc/passwd') %]", "line 1: the filter 'redirect' is not supported"),
        ("[% x | stdout %]", "line 1: the filter 'stdout' is not supported"),
        ("[% name = 'eval'; x | $name %]", "line 1: the filter 'eval' is not supported"),
        ("[% x.replace('(', '') %]", "line 1: a pattern is not supported"),
        ("[% \\x %]", "line 1: '\\' makes a reference, which is not supported"),
        ("[% f(\\x) %]", "line 1: '\\' is not supported here"),
        ("[% 010 %]", "line 1: a number that begins with 0 is not supported"),
        ("[% THROW food 'no cheese' %]", "line 1: food error - no cheese"),
        ("a\n[% 1 / 0 %]", "line 2: undef error - Illegal division by zero"),
    ];
    for (template, message) in cases {
        assert_eq!(error(template), message, "{template}");
    }
}

#[test]
fn syntax_errors_are_named_with_their_line() {
    let cases = [
        ("[% a & b %]", "line 1: '&' is not supported here"),
        ("[% x | %]", "line 1: a filter is missing"),
        ("[% FILTER %]x[% END %]", "line 1: a filter is missing"),
        ("[% IF x %]\n", "line 1: END is missing"),
        ("[% IF %]x[% END %]", "line 1: the directive ends early"),
        ("[% END %]", "line 1: 'END' is not supported here"),
        ("[% ELSE %]", "line 1: 'ELSE' is not supported here"),
        ("[% IF x %][% ELSE %][% ELSE %][% END %]", "line 1: 'ELSE' is not supported here"),
        ("[% IF x y %][% END %]", "line 1: 'y' is not supported here"),
        ("[% (x %]", "line 1: the directive ends early"),
        ("[% x ? y %]", "line 1: the directive ends early"),
        ("[% 'x %]", "line 1: a quote is not closed"),
        ("[%\n\n x y %]", "line 3: 'y' is not supported here"),
        ("[% NEXT %]", "line 1: 'NEXT' and 'LAST' belong into a loop"),
        ("[% 1 = 2 %]", "line 1: '=' is not supported here"),
    ];
    for (template, message) in cases {
        assert_eq!(error(template), message, "{template}");
    }
    assert_eq!(Template::parse(b"\xff").unwrap_err().to_string(), "line 1: the template is not UTF-8");
}

#[test]
fn size_and_depth_of_templates_are_limited() {
    let nested = |depth: usize| format!("{}x{}", "[% IF x %]".repeat(depth), "[% END %]".repeat(depth));
    assert_eq!(rendered(&nested(32), &[("x", "1")]), "x");
    assert!(error(&nested(33)).contains("more than 32"));
    let brackets = |depth: usize| format!("[% {}x{} %]", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(rendered(&brackets(32), &[("x", "1")]), "1");
    assert!(error(&brackets(33)).contains("more than 32"));
    assert!(error(&format!("[% {}x %]", "!".repeat(100))).contains("more than 32"));
    assert!(error(&format!("[% {}x %]", "x ? 1 : ".repeat(100))).contains("more than 32"));
    assert!(error(&format!("[% x{} %]", " | html".repeat(100))).contains("more than 32"));
    assert_eq!(rendered(&format!("[% x{} %]", " || x".repeat(50_000)), &[]), "");
    assert!(error(&" ".repeat(1 << 20)).contains("larger"));
}

#[test]
fn work_and_output_of_a_page_are_limited() {
    let long = "a".repeat(200);
    let pairs = [("x", long.as_str())];
    let cases = [
        ("[% x %]".repeat(60_000), "the page would be longer"),
        ("[% WHILE 1 %][% END %]".to_owned(), "WHILE loop terminated (> 1000 iterations)"),
        ("[% FOR i IN [1..60000]; FOR j IN [1..60000]; END; END %]".to_owned(), "more work than is allowed"),
        ("[% t = x; WHILE 1; t = t _ t; END %]".to_owned(), "the page would be longer"),
        ("[% x.repeat(1000000000) %]".to_owned(), "the page would be longer"),
        (
            "[% e = ''; e.repeat(1000000000000) %][% x | format('%9999s') %]".to_owned(),
            "a field is wider than 4096",
        ),
        ("[% BLOCK a; INCLUDE a; END; INCLUDE a %]".to_owned(), "more than 200 calls within one another"),
        ("[% MACRO m BLOCK; m; END; m %]".to_owned(), "more than 200 calls within one another"),
        ("[% FOR i IN [1..100000]; END %]".to_owned(), "a range has more than 65536 items"),
        ("[% l = []; l.1000000 = 1 %]".to_owned(), "the list has no such item"),
        ("[% l = [1]; WHILE 1; l = l.merge(l); END %]".to_owned(), "more work than is allowed"),
        ("[% FOR i IN [1..50]; x.repeat(50).match('(a*)*b'); END %]".to_owned(), "a pattern"),
    ];
    for (template, message) in cases {
        let start = std::time::Instant::now();
        match try_render(&template, &pairs) {
            Err(error) => assert!(error.contains(message), "{error}"),
            Ok(page) => assert!(message == "a pattern", "{}", page.len()),
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{message}");
    }
}

#[test]
fn values_that_name_one_another_are_freed() {
    assert_eq!(rendered("[% a = {}; b = { a = a }; a.b = b; a.b.a.b.a.keys.join %]", &[]), "b");
}
