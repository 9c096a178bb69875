#![allow(clippy::unwrap_used, clippy::panic, clippy::format_push_string)]

use std::collections::BTreeMap;

use super::inert::Inert;
use super::template::Template;
use super::variables::{Circumstances, Variables};
use crate::config::page::{Kind, Variable};
use crate::config::root::Root;
use crate::gate::Login;

/// `name=value` pairs as words.
fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Inert> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Inert::new(Kind::Token, value).unwrap())).collect()
}

fn rendered(template: &str, pairs: &[(&str, &str)]) -> String {
    let parsed = Template::parse(template.as_bytes()).unwrap_or_else(|error| panic!("{template}: {error}"));
    parsed.render(&values(pairs)).unwrap()
}

fn error(template: &str) -> String {
    match Template::parse(template.as_bytes()) {
        Ok(_) => panic!("{template} was taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn templates_are_rendered_as_template_toolkit_renders_them() {
    let cases: Vec<(String, String)> =
        serde_json::from_str(include_str!("../../../tests/data/templates/cases.json")).unwrap();
    assert!(cases.len() > 300);
    for (template, page) in cases {
        assert_eq!(rendered(&template, &[("x", "X"), ("y", "0"), ("z", "z-1")]), page, "{template}");
    }
}

/// The one place where the page differs: it is UTF-8 and needs no names for what UTF-8 can say.
#[test]
fn entities_are_only_for_what_means_something() {
    assert_eq!(rendered("[% '<é>' | html_entity %]", &[]), "&lt;é&gt;");
}

#[test]
fn what_is_not_supported_is_an_error_with_its_line() {
    let cases = [
        ("\n\n[% FOREACH x IN y %][% END %]", "line 3: 'FOREACH' is not supported here"),
        ("[% INCLUDE other.tt %]", "line 1: 'INCLUDE' is not supported here"),
        ("[% SET x = 1 %]", "line 1: 'SET' is not supported here"),
        ("[% x = 1 %]", "line 1: '=' is not supported here"),
        ("\n[% a.b %]", "line 2: '.' is not supported here"),
        ("[% f(1) %]", "line 1: '(' is not supported here"),
        ("[% a < b %]", "line 1: '<' is not supported here"),
        ("[% $x %]", "line 1: '$' is not supported here"),
        ("[% \"a $x\" %]", "line 1: a variable inside of a text is not supported"),
        (r#"[% "a\\n" %]"#, "line 1: this escape in a text is not supported"),
        ("[% 010 %]", "line 1: a number that begins with 0 is not supported"),
        ("[% x | upper %]", "line 1: the filter 'upper' is not supported"),
        ("[% x | %]", "line 1: a filter is missing"),
        ("[% FILTER %]x[% END %]", "line 1: a filter is missing"),
        ("[% IF x %]\n", "line 1: END is missing"),
        ("[% IF %]x[% END %]", "line 1: the directive ends early"),
        ("[% END %]", "line 1: 'END' is not supported here"),
        ("[% ELSE %]", "line 1: 'ELSE' is not supported here"),
        ("[% IF x %][% ELSE %][% ELSE %][% END %]", "line 1: 'ELSE' is not supported here"),
        ("[% x == y == z %]", "line 1: '==' is not supported here"),
        ("[% IF x y %][% END %]", "line 1: 'y' is not supported here"),
        ("[% (x %]", "line 1: the directive ends early"),
        ("[% x ? y %]", "line 1: the directive ends early"),
        ("a\n[% x", "line 2: '%]' is missing"),
        ("[% 'x %]", "line 1: a quote is not closed"),
        ("[%\n\n x y %]", "line 3: 'y' is not supported here"),
    ];
    for (template, message) in cases {
        assert_eq!(error(template), message, "{template}");
    }
    assert_eq!(Template::parse(b"\xff").unwrap_err().to_string(), "line 1: the template is not UTF-8");
}

#[test]
fn size_and_depth_have_an_end() {
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
    let long = Template::parse("[% x %]".repeat(60_000).as_bytes()).unwrap();
    assert!(long.render(&values(&[("x", &"a".repeat(200))])).is_err());
}

#[test]
fn a_template_tells_what_it_needs() {
    let template = Template::parse(b"[% a %][% IF b == c %][% d | html IF e %][% 'f' %][% END %]").unwrap();
    assert_eq!(template.names().collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
}

/// Every value in every place where the products' pages put one: no character of it ends its place.
#[test]
fn no_value_leaves_its_place() {
    let places = [
        ("<title>", "</title>"),
        ("<script>x = '", "';</script>"),
        ("<script>x = \"", "\";</script>"),
        ("<script>x = `", "`;</script>"),
        ("<link href=\"/x.css?v=", "\">"),
        ("<script src='/x-", ".js'></script>"),
        ("<a onclick='f(\"", "\")'>"),
        ("<!-- ", " -->"),
    ];
    let attacks = [
        "'\"</script><svg onload=alert(1)>",
        "\u{2028}';alert(1)//",
        "%27%22%3c/script%3e",
        "a\r\nb\u{85}c",
        "\\",
        "`${x}`",
        "-->",
        "&quot;&#x27;",
        &"'\"<".repeat(200),
        "\u{fffd}\0",
    ];
    for (before, after) in places {
        for attack in attacks {
            for kind in [Kind::Flag, Kind::Number, Kind::Word, Kind::Token, Kind::User, Kind::Encoded] {
                for filter in ["", " | html", " | uri", " || 'none'", " _ x"] {
                    let template = format!("{before}[% x{filter} %]{after}");
                    let values: BTreeMap<_, _> =
                        Inert::new(kind, attack).map(|value| ("x".to_owned(), value)).into_iter().collect();
                    let page = Template::parse(template.as_bytes()).unwrap().render(&values).unwrap();
                    let inside = page.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).unwrap();
                    assert!(
                        !inside.replace("\\u", "").contains(|c: char| "'\"`<>&\\${}".contains(c)
                            || c.is_whitespace()
                            || c.is_control()
                            || !c.is_ascii()),
                        "{kind:?} {attack:?} {template}: {inside}"
                    );
                }
            }
        }
    }
}

fn variables(toml: &str) -> Result<Variables, String> {
    let declared: BTreeMap<String, Variable> = toml::from_str(toml).map_err(|error| error.to_string())?;
    Variables::new(&declared, "node1", &Root::default())
}

#[test]
fn a_profile_hears_what_is_wrong_with_its_variables() {
    let cases = [
        ("x = { kind = 'word', from = [{ text = 'a b' }] }", "variable x: 'a b' does not fit the kind"),
        ("x = { kind = 'word', pattern = '(', from = [] }", "variable x: '('"),
        ("x = { kind = 'word', pattern = 'a)|(b', from = [] }", "variable x: 'a)|(b'"),
        ("x = { kind = 'word', from = [{ match = { file = '/f', pattern = 'a' } }] }", "exactly one group"),
        ("x = { kind = 'flag', from = [{ exists = '/a/{y}' }] }", "variable x: 'y' is not declared"),
        ("x = { kind = 'flag', from = [{ exists = '/a/{x}' }] }", "'x' is no word"),
        (
            "x = { kind = 'flag', from = [{ exists = '/a/{y}' }] }\ny = { kind = 'token', from = [] }",
            "'y' is no word",
        ),
        ("x = { kind = 'flag', from = [{ exists = '/a/{y' }] }", "} is missing"),
        ("x = { kind = 'raw', from = [] }", "unknown variant `raw`"),
        ("x = { kind = 'word', from = [{ shell = 'ls' }] }", "unknown variant `shell`"),
        ("x = { kind = 'word', from = [], escape = false }", "unknown field `escape`"),
    ];
    for (toml, message) in cases {
        let error = variables(toml).err().unwrap_or_default();
        assert!(error.contains(message), "{toml}: {error}");
    }
}

#[test]
fn the_first_source_that_fits_gives_the_value() {
    let declared = variables(
        "word = { kind = 'word', pattern = '[a-z]{2}|none', from = [{ cookie = 'C' }, { query = 'q' }, { text = 'none' }] }\n\
         flag = { kind = 'flag', from = [{ query = 'f' }, { user_agent = { all = ['A', 'B'], none = ['C'] } }] }\n\
         user = { kind = 'user', from = ['user'] }\n\
         token = { kind = 'token', from = ['csrf_token', { text = 'null' }] }\n\
         node = { kind = 'word', from = ['node_name'] }",
    )
    .unwrap();
    let login = Login { user: "u@r".into(), csrf_token: "6B024400:a+/".into() };
    let cases = [
        ("word", "C=aa", "q=bb", "", "aa"),
        ("word", "C=aaa", "q=bb", "", "bb"),
        ("word", "C=aa%0A", "q=b%0a", "", "none"),
        ("word", "C=a'", "q", "", "none"),
        ("flag", "", "f", "", "1"),
        ("flag", "", "f=0", "A B", "0"),
        ("flag", "", "f=", "A B", "1"),
        ("flag", "", "", "A", ""),
        ("flag", "", "", "A B C", ""),
        ("user", "", "", "", "u@r"),
        ("token", "", "", "", "6B024400:a+/"),
        ("node", "", "node=x", "", "node1"),
        ("undeclared", "undeclared=x", "undeclared=x", "", ""),
    ];
    for (name, cookies, query, user_agent, value) in cases {
        let circumstances = Circumstances { cookies, query, user_agent, login: Some(&login) };
        let found = declared.value(name, &circumstances);
        assert_eq!(found.as_ref().map_or("", Inert::as_str), value, "{name} {cookies} {query} {user_agent}");
    }
    let nobody = Circumstances { cookies: "", query: "", user_agent: "", login: None };
    assert_eq!(declared.value("user", &nobody), None);
    assert_eq!(declared.value("token", &nobody).as_ref().map(Inert::as_str), Some("null"));
}
