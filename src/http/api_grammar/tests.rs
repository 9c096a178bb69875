use super::*;

fn grammar(text: &str) -> Result<ApiGrammar, String> {
    let rules: ApiRules = toml::from_str(text).unwrap();
    Ok(ApiGrammar { prefix: prefix(&rules.prefix)?, formats: formats(&rules)? })
}

/// An API whose paths name the format.
pub fn named_formats() -> ApiGrammar {
    let formats = "formats = { json = 'json', extjs = 'status-in-body' }\nother_formats = 'text'";
    grammar(&format!("prefix = '/api2'\n{formats}")).unwrap()
}

/// An API with one format.
pub fn one_format() -> ApiGrammar {
    grammar("prefix = '/rest/v1'\nformat = 'json'").unwrap()
}

#[test]
fn failures_follow_the_format_of_the_path() {
    let api = named_formats();
    assert_eq!(api.error_format("/api2/json/x"), ErrorFormat::Json);
    assert_eq!(api.error_format("/api2/extjs"), ErrorFormat::StatusInBody);
    assert_eq!(api.error_format("/api2/html/x"), ErrorFormat::Text);
    assert_eq!(api.error_format("/x"), ErrorFormat::Text);
    let api = one_format();
    assert_eq!(api.error_format("/rest/v1/x"), ErrorFormat::Json);
    assert_eq!(api.error_format("/rest/v2/x"), ErrorFormat::Text);
    assert_eq!(ApiGrammar::default().error_format("/api2/json/x"), ErrorFormat::Text);
}

#[test]
fn an_api_that_is_not_clear_is_rejected() {
    for (text, part) in [
        ("prefix = ''\nformat = 'json'", "product.api.prefix"),
        ("prefix = '/'\nformat = 'json'", "product.api.prefix"),
        ("prefix = '/a/'\nformat = 'json'", "product.api.prefix"),
        ("prefix = '/a/../b'\nformat = 'json'", "product.api.prefix"),
        ("prefix = '/a%2f'\nformat = 'json'", "product.api.prefix"),
        ("prefix = 'a'\nformat = 'json'", "product.api.prefix"),
        ("prefix = '/a'", "write format, or formats"),
        ("prefix = '/a'\nother_formats = 'text'", "write format, or formats"),
        ("prefix = '/a'\nformat = 'json'\nother_formats = 'text'", "without formats"),
        ("prefix = '/a'\nformat = 'json'\nformats = { json = 'json' }", "without formats"),
        ("prefix = '/a'\nformats = { JSON = 'json' }", "'JSON' is not a name"),
    ] {
        let error = grammar(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn json_call_targets_follow_the_grammar() {
    assert_eq!(named_formats().json_target("/x").as_deref(), Some("/api2/json/x"));
    assert_eq!(one_format().json_target("/x").as_deref(), Some("/rest/v1/x"));
    let text = grammar("prefix = '/a'\nformats = { html = 'text' }").unwrap();
    assert_eq!(text.json_target("/x"), None);
}

#[test]
fn an_unlisted_format_is_no_call() {
    let api = grammar("prefix = '/a'\nformats = { json = 'json' }").unwrap();
    assert!(matches!(api.classify("/a/json/x"), PathKind::Call(_)));
    assert!(matches!(api.classify("/a/html/x"), PathKind::NoCall));
    assert!(matches!(ApiGrammar::default().classify("/a/json/x"), PathKind::Other));
}
