#![allow(clippy::format_push_string)]

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use super::Template;
use crate::config::page::VariableKind;
use crate::handler::page::sanitized::SanitizedValue;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn rendered(template: &str, pairs: &[(&str, &str)]) -> String {
    try_render(template, pairs).unwrap_or_else(|error| panic!("{template}: {error}"))
}

/// The page, or the error without one.
fn try_render(template: &str, pairs: &[(&str, &str)]) -> Result<String, String> {
    let parsed = Template::parse(template.as_bytes()).map_err(|error| error.to_string())?;
    let value = |name: &str| {
        let (_, value) = pairs.iter().find(|(known, _)| *known == name)?;
        SanitizedValue::new(VariableKind::Token, value)
    };
    parsed.render(&value, now()).map(|rendered| rendered.page).map_err(|error| error.to_string())
}

/// The page with `x` and `q` as any text from outside.
fn user_page(template: &str, value: &str) -> Result<String, String> {
    let parsed = Template::parse(template.as_bytes()).map_err(|error| error.to_string())?;
    let value =
        |name: &str| if "xq".contains(name) { SanitizedValue::new(VariableKind::User, value) } else { None };
    parsed.render(&value, now()).map(|rendered| rendered.page).map_err(|error| error.to_string())
}

fn error(template: &str) -> String {
    try_render(template, &[("x", "X")]).err().unwrap_or_else(|| panic!("{template} was rendered"))
}

fn assert_errors(cases: &[(&str, &str)]) {
    for (template, message) in cases {
        assert_eq!(error(template), *message, "{template}");
    }
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
    assert_errors(&[
        ("\n\n[% PERL %]print 1;[% END %]", "line 3: 'PERL' runs Perl"),
        ("[% RAWPERL %]print 1;[% END %]", "line 1: 'RAWPERL' runs Perl"),
        ("[% INSERT '/etc/passwd' %]", "line 1: 'INSERT' reads a file"),
        (
            "[% INCLUDE other.tt %]",
            "line 1: 'other.tt' is not a block of this file, and files are not included",
        ),
        (
            "[% IF x %]\n[% PROCESS \"a/b\" %][% END %]",
            "line 2: 'a/b' is not a block of this file, and files are not included",
        ),
        ("\n[% name = x; INCLUDE $name %]", "line 2: '…' is not a block of this file"),
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
    ]);
}

#[test]
fn syntax_errors_are_named_with_their_line() {
    assert_errors(&[
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
    ]);
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

/// A value keeps its origin in the text of an error, and in a character made of a number.
#[test]
fn values_are_escaped_in_errors_and_formats() {
    let tag = "<img src=x onerror=alert(1)>";
    let escaped = r"\u003cimg\u0020src\u003dx\u0020onerror\u003dalert\u00281\u0029\u003e";
    let user = |template: &str, value: &str| user_page(template, value).unwrap();
    let date = "[% USE date; TRY; x = date.format(q); CATCH; error.info; END %]";
    assert_eq!(user(date, tag), format!("bad time/date string:  expects 'h:m:s d:m:y'  got: '{escaped}'"));
    let nested = "[% TRY; TRY; THROW a q; CATCH; THROW b error; END; CATCH; error; error.info; END %]";
    assert_eq!(user(nested, "<"), r"b error - a error - \u003ca error - \u003c");
    assert_eq!(user("[% n = q + 0; n | format('%c') %]", "60"), r"\u003c");
    assert_eq!(user("[% q | format('%c%%') %]", "39"), r"\u0027\u0025");
    assert_eq!(user("[% q.length + 59 | format('<%5c>') %]", "1"), r"<    \u003c>");
}

/// The log gets the message of an exception.
#[test]
fn messages_of_failed_pages_name_no_value() {
    assert_errors(&[
        ("[% THROW a x %]", "line 1: a error - …"),
        ("[% THROW a \"is $x\" %]", "line 1: a error - is …"),
        ("[% THROW $x 'b' %]", "line 1: … error - b"),
        (
            "[% USE date; date.format(x) %]",
            "line 1: date error - bad time/date string:  expects 'h:m:s d:m:y'  got: '…'",
        ),
        ("[% INCLUDE $x %]", "line 1: '…' is not a block of this file"),
        ("[% FILTER $x %][% END %]", "line 1: the filter '…' is not supported"),
    ]);
}

#[test]
fn huge_numbers_take_no_memory_and_overflow_nothing() {
    let part = "a list has more than 65536 items";
    let work = "more work than is allowed";
    let cases = [
        ("x.slice(-1000000000)", Some(part)),
        ("x.slice(-9000000000000000000)", Some(part)),
        ("x.slice(0, 9223372036854775807)", Some(part)),
        ("x.slice(-9223372036854775807, 9223372036854775807)", Some(part)),
        ("x.slice(9223372036854775807, -9223372036854775807)", None),
        ("x.slice(9223372036854775807, 9223372036854775807)", None),
        ("x.first(9223372036854775807)", Some(part)),
        ("x.first(-9223372036854775807)", None),
        ("x.last(9223372036854775807)", None),
        ("x.last(-9223372036854775807)", None),
        ("x.hash(9223372036854775807).keys.join", None),
        ("x.splice(9223372036854775807, 9223372036854775807)", None),
        ("x.splice(-9223372036854775807, -9223372036854775807)", None),
        ("x.item(-9223372036854775807)", None),
        ("x.join.substr(9223372036854775807, 9223372036854775807)", None),
        ("x.join.substr(-9223372036854775807, -9223372036854775807)", None),
        ("x.join.chunk(9223372036854775807)", None),
        ("x.join.chunk(-9223372036854775807)", None),
        ("x.join.split('', 9223372036854775807)", None),
        ("x.join.repeat(9223372036854775807)", Some("the page would be longer")),
        ("x.join.repeat(-9223372036854775807)", None),
        ("x.join | indent('9223372036854775807')", Some("the page would be longer")),
        ("x.join | truncate(9223372036854775807)", None),
        ("x.join | truncate(-9223372036854775807)", None),
        ("x.join | format('%9223372036854775807s')", Some("a field is wider than 4096")),
        ("x.join | format('%99999999999999999999s')", Some("a field is wider than 4096")),
        ("e.size", None),
        ("r.size", Some("a range has more than 65536 items")),
        ("-9223372036854775807 - 9223372036854775807", None),
        ("-9223372036854775807 MOD -1", None),
        ("(-9223372036854775807 - 1) MOD -1", None),
        ("(-9223372036854775807 - 1) DIV -1", None),
        ("1e400 + 0", None),
    ];
    for (expression, message) in cases {
        let outcome = try_render(
            &format!(
                "[% x = [1]; {} y = {expression} %]",
                if expression == "r.size" {
                    "r = [-9223372036854775807..9223372036854775807];"
                } else {
                    "e = [9223372036854775806..9223372036854775807];"
                }
            ),
            &[],
        );
        let expression = format!("{expression}: {outcome:?}");
        match message {
            Some(message) => assert!(outcome.is_err_and(|error| error.contains(message)), "{expression}"),
            None => assert!(outcome.is_ok() || expression.contains("1e400"), "{expression}"),
        }
    }
    let all = format!("[% x = [1]; {} %]", "y = x.first(60000); ".repeat(10));
    assert!(error(&all).contains(work));
    assert_eq!(
        rendered(
            "[% l = [1,2,3]; m = [1]; l.slice(-2).join %] [% m.hash(5).keys.join %] [% m.first(3).size %]",
            &[]
        ),
        "2 3 5 3"
    );
}

/// Neither parsing, rendering nor freeing a long template needs a deep stack. A small stack makes short chains enough.
#[test]
fn long_chains_need_no_deep_stack() {
    let test = std::thread::Builder::new().stack_size(1 << 20).spawn(render_long_chains);
    test.unwrap().join().unwrap();
}

fn render_long_chains() {
    let count = 8_000;
    let links = [
        " DIV 1",
        " MOD 7",
        " DIV 1 MOD 7",
        " * 1",
        " / 1",
        " % 7",
        " + 1",
        " - 1",
        " _ x",
        " || 0",
        " && 1",
        " == 1",
        " < 2",
        ".a",
        ".a()",
        ".1",
        " ? 1 : x",
        " | html",
        " FILTER html",
        " WRAPPER b",
        " IF 1",
        " = x",
        ", x",
        "; x",
        " DIV (1",
        "(x",
        " * 1 DIV 1",
        " %][% x",
        " %][% IF x",
        " %][% ELSIF x",
        " %][% CASE x",
        " %][% CATCH x",
        " %][% BLOCK x",
        "; MACRO m BLOCK",
        "; TRY",
        " _ [x",
        " _ {a = x",
        " _ ${x",
        " _ \"$x\"",
        " _ NOT x",
        " _ !x",
        "; x = x",
        "; THROW x",
        "..1",
        " TO 1",
        " = MACRO m",
        " = BLOCK",
        " = FILTER html",
    ];
    for link in links {
        for start in ["[% x", "[% IF x", "[% y = x"] {
            let template = format!("{start}{} %]", link.repeat(count));
            let _ = try_render(&format!("{template}[% END %]"), &[("x", "1")]);
        }
    }
    assert_eq!(rendered(&format!("[% 7{} %]", " DIV 1".repeat(1000)), &[]), "7");
    assert_eq!(
        rendered("[% 3 * 7 DIV 2 MOD 3 %] [% 17 MOD 10 DIV 2 MOD 2 DIV 2 %] [% 7 DIV 2 DIV 2 * 4 %]", &[]),
        "0 0 4"
    );
    let thrown = "[% e = x; FOR i IN [1..9000]; TRY; THROW a e; CATCH; e = error; END; END; e.type %]";
    let _ = try_render(thrown, &[("x", "1")]);
}

/// Each of these took much memory, or much time, for few steps. Now the steps end the page after a few iterations.
#[test]
fn large_values_are_counted_before_they_are_made() {
    // a setup, and the most iterations that a page gets with it
    let long = ("t = 'é<'; t = t.repeat(150000); ", 36);
    let mixed = ("t = x _ 'a'; t = t.repeat(10000); ", 14);
    let list = ("l = [1..60000]; ", 3);
    let cases = [
        (list, "l.first(60000)"),
        (list, "l.last(60000)"),
        (list, "l.slice(0, -1)"),
        (list, "l.list.reverse"),
        (list, "m = [1]; m.splice(0, 0, l)"),
        (list, "m = [1]; m.import(l, l, l, l)"),
        (list, "h = l.hash(1); h.keys"),
        (long, "t.substr(0, 300000)"),
        (long, "t.substr(1, 1, t)"),
        (long, "t.squote"),
        (long, "t.dquote"),
        (long, "t.upper"),
        (long, "t.length"),
        (long, "t == t.substr(1)"),
        (long, "t.match('(.*)')"),
        (long, "t.replace('(.*)', '$1$1$1$1')"),
        (long, "t.replace('(?=x)y', '')"),
        (long, "h = {}; h.$t = 1; h.keys"),
        (long, "h = { a => t, b => t }; h.sort"),
        (long, "s = [t, t, t, t, t, t]; s.sort"),
        (long, "s = [t, t, t, t, t, t]; s.unique"),
        (long, "s = [t, t, t, t]; s.join"),
        (long, "t | truncate(3) | format(t)"),
        (long, "TRY; THROW a t; CATCH; y = error _ ''; END; y"),
        (long, "['a'..t]"),
        (("", 142), "x | format('%4096s%-4096d%.4000f') | format('%4096s')"),
        (mixed, "t.chunk(1)"),
        (mixed, "t.split('a')"),
        (mixed, "t.split('')"),
        (mixed, "t.replace('a', 'b')"),
        (mixed, "t | indent | format('%s') | html_line_break"),
        (mixed, "t.collapse"),
    ];
    for ((setup, most), statement) in cases {
        let (iterations, error) = count_iterations(setup, statement);
        assert!((1..=most).contains(&iterations), "{statement}: {iterations} iterations");
        assert!(
            error.contains("more work than is allowed") || error.contains("would be longer"),
            "{statement}: {error}"
        );
    }
    let (setup, _) = mixed;
    assert_eq!(
        rendered(&format!("[% {setup}t.chunk(1).size %] [% t.replace('a', '').length %]"), &[("x", "y")]),
        "20000 10000"
    );
}

/// Repeats a statement until the page fails. Each iteration reads another variable, which counts it.
fn count_iterations(setup: &str, statement: &str) -> (usize, String) {
    let is_expression = !statement.starts_with("TRY") && !statement.contains(';');
    let statement = if is_expression { format!("y = {statement}") } else { statement.to_owned() };
    let template = format!("[% {setup}FOR i IN [1..3000]; n = ${{\"c$i\"}}; {statement}; END %]");
    let iterations = Cell::new(0);
    let value = |name: &str| {
        if name.starts_with('c') {
            iterations.set(iterations.get() + 1);
        }
        if name == "x" { SanitizedValue::new(VariableKind::User, "<") } else { None }
    };
    let outcome = Template::parse(template.as_bytes()).unwrap().render(&value, now());
    (iterations.get(), outcome.err().map(|error| error.to_string()).unwrap_or_default())
}
