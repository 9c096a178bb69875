#![allow(clippy::format_push_string)]

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::sanitized::{SanitizedValue, write_piece};
use super::template::Template;
use super::variables::{ProfileVariables, VariableContext};
use crate::auth::authenticator::PageLogin;
use crate::config::page::{DefinedVariable, TemplateCondition, VariableKind, VariableRules};
use crate::config::root::RootDirectory;

/// A value as the page has it.
fn written(value: Option<&SanitizedValue>) -> String {
    let mut page = String::new();
    if let Some(value) = value {
        write_piece(value.raw(), value.origin(), &mut page);
    }
    page
}

/// Every value in every context of the products' pages: no character of it ends the context.
#[test]
fn no_value_ends_its_context() {
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
    let one_of_each: String = (0..=255_u8).map(char::from).collect();
    let attacks = [
        "'\"</script><svg onload=alert(1)>",
        "';alert(1)//",
        "\\';alert(1)//",
        "\u{2028}';alert(1)//",
        "\u{2028}alert(1)\u{2029}",
        "%27%22%3c/script%3e",
        "%27%22%3C",
        "a\r\nb\nc",
        "a\r\nb\u{85}c",
        "\\",
        "`${x}`",
        "`${alert(1)}`",
        "-->",
        "<!--<script>",
        "]]>",
        "&quot;&#x27;",
        "&quot;&#39;&lt;",
        "[% token %]",
        &"'\"<".repeat(200),
        "\u{fffd}\0",
        "\0\u{7f}\u{85}\u{feff}\u{202e}",
        &one_of_each,
    ];
    for (before, after) in places {
        for attack in attacks {
            for kind in [
                VariableKind::Flag,
                VariableKind::Number,
                VariableKind::Word,
                VariableKind::Token,
                VariableKind::User,
                VariableKind::Encoded,
            ] {
                for filter in ["", " | html", " | uri", " || 'none'", " _ x"] {
                    let template = format!("{before}[% x{filter} %]{after}");
                    let value =
                        |name: &str| (name == "x").then(|| SanitizedValue::new(kind, attack)).flatten();
                    let parsed = Template::parse(template.as_bytes()).unwrap();
                    let page = parsed.render(&value, SystemTime::UNIX_EPOCH).unwrap().page;
                    let inside = page.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).unwrap();
                    assert!(
                        !inside.replace("\\u", "").contains(|c: char| "'\"`<>&\\${}".contains(c)
                            || c.is_whitespace()
                            || c.is_control()
                            || !c.is_ascii()),
                        "{kind:?} {attack:?} {template}: {inside}"
                    );
                    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~+-@%/:=".contains(&byte);
                    let is_bare = filter.is_empty();
                    assert!(!is_bare || inside.replace("\\u", "").bytes().all(is_plain), "{kind:?} {inside}");
                }
            }
        }
    }
}

fn variables(toml: &str) -> Result<ProfileVariables, String> {
    let declared: BTreeMap<String, VariableRules> =
        toml::from_str(toml).map_err(|error| error.to_string())?;
    ProfileVariables::new(&declared, "node1", &RootDirectory::default())
}

#[test]
fn errors_in_variables_of_a_profile_are_named() {
    let cases = [
        ("x = { kind = 'word', from = [{ text = 'a b' }] }", "variable x: 'a b' does not fit the kind"),
        ("x = { kind = 'word', pattern = '(', from = [] }", "variable x: '('"),
        ("x = { kind = 'word', pattern = 'a)|(b', from = [] }", "variable x: 'a)|(b'"),
        ("x = { kind = 'word', from = [{ match = { file = '/f', pattern = 'a' } }] }", "exactly one group"),
        ("x = { kind = 'flag', from = [{ exists = '/a/{y}' }] }", "variable x: 'y' is not declared"),
        ("x = { kind = 'flag', from = [{ exists = '/a/{x}' }] }", "'x' is not a word"),
        (
            "x = { kind = 'flag', from = [{ exists = '/a/{y}' }] }\ny = { kind = 'token', from = [] }",
            "'y' is not a word",
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
         flag = { kind = 'flag', from = [{ query = 'f' }, { bare_query = { name = 'f', value = '1' } }, { user_agent = { all = ['A', 'B'], none = ['C'] } }] }\n\
         user = { kind = 'user', from = ['user'] }\n\
         token = { kind = 'token', from = ['csrf_token', { text = 'null' }] }\n\
         node = { kind = 'word', from = ['node_name'] }",
    )
    .unwrap();
    let login = PageLogin { user: "u@r".into(), csrf_token: "6B024400:a+/".into() };
    let cases = [
        ("word", "C=aa", "q=bb", "", "aa"),
        ("word", "C=aaa", "q=bb", "", "bb"),
        ("word", "C=aa%0A", "q=b%0a", "", "none"),
        ("word", "C=a'", "q", "", "none"),
        ("flag", "", "f", "", "1"),
        ("flag", "", "f=0", "A B", "0"),
        ("flag", "", "f=", "A B", "0"),
        ("flag", "", "g=&f", "", "1"),
        ("word", "", "q=", "", ""),
        ("flag", "", "", "A", ""),
        ("flag", "", "", "A B C", ""),
        ("user", "", "", "", "u@r"),
        ("token", "", "", "", "6B024400:a+/"),
        ("node", "", "node=x", "", "node1"),
        ("undeclared", "undeclared=x", "undeclared=x", "", ""),
    ];
    for (name, cookies, query, user_agent, value) in cases {
        let context = VariableContext { cookies, query, user_agent, login: Some(&login) };
        let found = declared.value(name, &context);
        assert_eq!(written(found.as_ref()), value, "{name} {cookies} {query} {user_agent}");
    }
    let first_visit = VariableContext { cookies: "", query: "", user_agent: "", login: None };
    assert_eq!(declared.value("user", &first_visit), None);
    assert_eq!(written(declared.value("token", &first_visit).as_ref()), "null");
}

#[test]
fn a_condition_can_test_for_a_value() {
    let declared = variables(
        "word = { kind = 'word', pattern = '[a-z]+', from = [{ query = 'w' }] }\n\
         bare = { kind = 'flag', from = [{ query = 'b' }, { bare_query = { name = 'b', value = '0' } }] }",
    )
    .unwrap();
    let cases = [
        ("", "word", false, false),
        ("w", "word", false, false),
        ("w=", "word", true, false),
        ("w=%3C", "word", true, false),
        ("w=a", "word", true, true),
        ("b", "bare", true, false),
        ("b=1", "bare", true, true),
    ];
    for (query, name, is_defined, is_true) in cases {
        let context = VariableContext { cookies: "", query, user_agent: "", login: None };
        let defined = TemplateCondition::IsDefined(DefinedVariable { defined: name.to_owned() });
        assert_eq!(declared.holds(&defined, &context), is_defined, "{query}");
        let condition = TemplateCondition::IsTrue(name.to_owned());
        assert_eq!(declared.holds(&condition, &context), is_true, "{query}");
    }
}
