//! The tests that the documentation names in comments such as `<!-- test: files::a_name -->`: each is there, and
//! `docs/reference/tests.md` lists them by page, section and behaviour.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::sources;

const LIST: &str = "docs/reference/tests.md";
const WIDTH: usize = 100;
const MARK: &str = "<!-- test: ";
const INTRODUCTION: &str = "\
# Tests

This page lists each documented behaviour with the tests that verify it. If you change a behaviour,
run its tests:

```
cargo test --test blackbox -- NAME                  # a name without a prefix
cargo test --lib NAME                               # unit: NAME
cargo test --package nodegate-spice NAME            # spice: NAME
cargo test --workspace NAME                         # a name without a module: fuzzing, soak
make test RELEASE=trixie TESTS=NAME                 # a name without a prefix, on Debian 13
```

`.ci/run` runs all tests on the Debian of your machine. On Debian 13 it runs the smoke test: `tls::`,
a few clients, and the packages
([test on another Debian](../../CONTRIBUTING.md#test-on-another-debian)).

A test writes this page from the comments in the other pages. To write it again:

```
NODEGATE_UPDATE_DOCS=1 cargo test --test blackbox -- house
```
";

/// A behaviour that a page describes, and the tests that verify it.
#[derive(Debug, Eq, PartialEq)]
struct Behaviour {
    section: String,
    text: String,
    tests: Vec<String>,
}

/// Reads a page line by line.
#[derive(Default)]
struct Reader {
    title: String,
    chapter: String,
    section: String,
    /// the paragraph, list item or table row that a comment belongs to
    block: String,
    block_ended: bool,
    behaviours: Vec<Behaviour>,
}

impl Reader {
    fn read(page: &str) -> Self {
        let mut reader = Self::default();
        let mut is_code = false;
        for line in page.lines() {
            if line.trim_start().starts_with("```") {
                is_code = !is_code;
                reader.block_ended = true;
            } else if !is_code {
                reader.line(line);
            }
        }
        reader
    }

    fn line(&mut self, line: &str) {
        let text = line.trim();
        let heading = text.trim_start_matches('#');
        if text.starts_with(MARK) {
            self.name_tests(text);
        } else if line.starts_with('#') {
            match text.len() - heading.len() {
                1 => heading.trim().clone_into(&mut self.title),
                2 => (self.chapter, self.section) = (heading.trim().to_owned(), String::new()),
                _ => heading.trim().clone_into(&mut self.section),
            }
            self.block.clear();
        } else if text.is_empty() {
            self.block_ended = true;
        } else if let Some(row) = text.strip_prefix("| ") {
            row.split(" | ").next().unwrap_or_default().clone_into(&mut self.block);
            self.name_tests(row);
            self.block_ended = true;
        } else {
            self.text(text, line.starts_with("  "));
        }
    }

    /// An indented line goes on with the list item, also behind an empty line.
    fn text(&mut self, text: &str, is_indented: bool) {
        let item = text.split_once(' ').filter(|(mark, _)| {
            *mark == "*" || mark.strip_suffix('.').is_some_and(|number| number.parse::<u8>().is_ok())
        });
        if (self.block_ended && !is_indented) || item.is_some() {
            self.block.clear();
        }
        self.block_ended = false;
        if !self.block.is_empty() {
            self.block.push(' ');
        }
        self.block.push_str(item.map_or(text, |(_, text)| text));
    }

    /// The comments of a line name tests of the block before them.
    fn name_tests(&mut self, line: &str) {
        for comment in line.split(MARK).skip(1) {
            let (test, _) = comment.split_once(" -->").unwrap_or_else(|| panic!("no end: {line}"));
            assert!(!self.block.is_empty(), "{}: '{test}' belongs to no text", self.title);
            let behaviour = Behaviour {
                section: [self.chapter.as_str(), self.section.as_str()].join(": "),
                text: without_links(&self.block),
                tests: Vec::new(),
            };
            let is_same =
                |last: &Behaviour| (&last.section, &last.text) == (&behaviour.section, &behaviour.text);
            if !self.behaviours.last().is_some_and(is_same) {
                self.behaviours.push(behaviour);
            }
            self.behaviours.last_mut().unwrap().tests.push(test.to_owned());
        }
    }
}

/// Links lead from the page that they are on, so the list has their text only.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[')
        && let Some((name, after)) = link.split_once("](")
        && let Some((_, after)) = after.split_once(')')
    {
        plain.push_str(before);
        plain.push_str(name);
        rest = after;
    }
    plain + rest
}

/// A list item in lines of at most `WIDTH` columns.
fn item(text: &str) -> String {
    let mut lines = String::from("*");
    let mut column = 1;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column + 1 + width > WIDTH {
            lines.push_str("\n ");
            column = 1;
        }
        let _ = write!(lines, " {word}");
        column += 1 + width;
    }
    lines
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of the documentation with their paths, in order, without the list of tests.
pub(super) fn pages() -> Vec<(String, String)> {
    let mut waiting: Vec<PathBuf> = vec![root().join("docs")];
    let mut pages = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|end| end == "md") {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            pages.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    pages.retain(|(name, _)| name != LIST);
    pages.sort();
    pages
}

fn list() -> String {
    let mut list = INTRODUCTION.to_owned();
    for (name, text) in pages() {
        let reader = Reader::read(&text);
        if reader.behaviours.is_empty() {
            continue;
        }
        let link = name.strip_prefix("docs/").unwrap();
        let _ = writeln!(list, "\n## {}\n\nFrom [{link}](../{link}).", reader.title);
        let mut section = String::new();
        for behaviour in reader.behaviours {
            if behaviour.section != section {
                section = behaviour.section;
                let _ = writeln!(list, "\n### {}", section.trim_end_matches(": "));
            }
            let _ = writeln!(list, "\n{}\n", item(&behaviour.text));
            for test in behaviour.tests {
                let _ = writeln!(list, "      {test}");
            }
        }
    }
    list
}

/// The names of the test functions below a folder.
fn tests_below(folder: &str) -> HashSet<String> {
    let mut tests = HashSet::new();
    for (_, text) in sources(folder) {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            is_test |= line.starts_with("#[") && line.contains("test]");
            let function = line.strip_prefix("async fn ").or(line.strip_prefix("fn "));
            if let Some((name, _)) = function.and_then(|line| line.split_once('(')) {
                if is_test {
                    tests.insert(name.to_owned());
                }
                is_test = false;
            }
        }
    }
    tests
}

/// A name fits on one line of a test report; the test's comment has the sentence.
#[test]
fn test_names_have_eight_words_at_most() {
    for folder in ["src", "spice/src", "tests"] {
        for name in tests_below(folder) {
            assert!(name.split('_').count() <= 8, "{folder}: shorten {name}");
        }
    }
}

#[test]
fn every_documented_test_is_there() {
    let folders = [("unit: ", "src"), ("spice: ", "spice/src"), ("", "tests")];
    let folders = folders.map(|(prefix, folder)| (prefix, tests_below(folder)));
    for (page, text) in pages() {
        let behaviours = Reader::read(&text).behaviours;
        for test in behaviours.iter().flat_map(|behaviour| &behaviour.tests) {
            let (prefix, known) = folders.iter().find(|(prefix, _)| test.starts_with(prefix)).unwrap();
            let path = test.strip_prefix(prefix).unwrap();
            let name = path.rsplit("::").next().unwrap();
            assert!(known.contains(name), "{page} names a test that is not there: {test}");
        }
    }
}

#[test]
fn the_list_of_tests_is_up_to_date() {
    let (path, list) = (root().join(LIST), list());
    if std::env::var_os("NODEGATE_UPDATE_DOCS").is_some_and(|value| value == "1") {
        fs::write(&path, &list).unwrap();
    }
    let written = fs::read_to_string(path).unwrap();
    assert!(
        written == list,
        "{LIST} is old; write it again: NODEGATE_UPDATE_DOCS=1 cargo test --test blackbox -- house"
    );
}

#[test]
fn pages_with_tests_keep_them() {
    let least =
        [("docs/compatibility.md", 440), ("docs/security.md", 120), ("docs/reference/comparison.md", 20)];
    for (page, least) in least {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let behaviours = Reader::read(&text).behaviours;
        let named: usize = behaviours.iter().map(|behaviour| behaviour.tests.len()).sum();
        assert!(named >= least, "{page} names {named} tests, fewer than {least}");
    }
}

/// The words in back quotes that look like a test: `auth::login::a_name`, or a name of five words or more.
fn quoted_tests(page: &str) -> Vec<&str> {
    let words = page.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let words = words.filter(|word| {
        word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_: ".contains(&byte))
    });
    let is_test = |word: &&str| match word.rsplit_once("::") {
        Some((_, name)) => name.matches('_').count() >= 2,
        None => word.matches('_').count() >= 4 && !word.starts_with("nodegate_"),
    };
    words.filter(is_test).collect()
}

#[test]
fn no_test_is_named_in_prose() {
    for (page, text) in pages() {
        let named = quoted_tests(&text);
        assert!(named.is_empty(), "{page}: write these as comments, such as {MARK}{} -->", named.join(", "));
    }
}

#[test]
fn comments_belong_to_the_text_before_them() {
    let page = "# P\n\n## A\n\nOne [two](x.md)\nthree.\n<!-- test: a::b -->\n<!-- test: unit: c -->\n\n### B\n\n\
        * four\n\n  five\n  <!-- test: d -->\n* six\n\n```\n<!-- test: e -->\n```\n\n\
        | seven | eight <!-- test: f --> |\n";
    let behaviour = |section: &str, text: &str, tests: &[&str]| Behaviour {
        section: section.to_owned(),
        text: text.to_owned(),
        tests: tests.iter().map(|test| (*test).to_owned()).collect(),
    };
    let reader = Reader::read(page);
    assert_eq!(reader.title, "P");
    let expected = [
        behaviour("A: ", "One two three.", &["a::b", "unit: c"]),
        behaviour("A: B", "four five", &["d"]),
        behaviour("A: B", "seven", &["f"]),
    ];
    assert_eq!(reader.behaviours, expected);
}
