//! The links of the documentation: each leads to a file that is there, and to a heading of it.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path};

use super::documented_tests::pages;

const ROOT_PAGES: &[&str] = &["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];

/// A page without its blocks of code.
fn prose(page: &str) -> String {
    let mut is_code = false;
    let mut text = String::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The targets of `[text](target)` and of `[label]: target`.
fn targets(prose: &str) -> Vec<&str> {
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ', '\n']).next());
    let labels = prose.lines().filter(|line| line.starts_with('['));
    inline.chain(labels.filter_map(|line| line.split_once("]: ").map(|(_, target)| target.trim()))).collect()
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(page: &str) -> HashSet<String> {
    let prose = prose(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_leads_to_a_heading_or_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = pages();
    all.extend(
        ROOT_PAGES.iter().map(|name| ((*name).to_owned(), fs::read_to_string(root.join(name)).unwrap())),
    );
    let mut links = 0;
    for (page, text) in &all {
        let folder = root.join(page).parent().unwrap().to_owned();
        for target in targets(&prose(text)) {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { root.join(page) } else { folder.join(path) };
            assert!(file.exists(), "{page}: {target} is not there");
            if !heading.is_empty() {
                let anchors = anchors(&fs::read_to_string(file).unwrap());
                assert!(anchors.contains(heading), "{page}: {target} has no such heading");
            }
        }
    }
    assert!(links > 100, "{links} links");
}

/// The pages and folders that the package `nodegate` installs, and the part of their paths that it leaves out.
fn installed() -> (Vec<String>, String) {
    let rules = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("debian/rules")).unwrap();
    let line = rules.lines().find_map(|line| line.trim().strip_prefix("dh_installdocs -pnodegate ")).unwrap();
    let (left_out, names) = line.strip_prefix("-X").unwrap().split_once(' ').unwrap();
    (names.split_whitespace().map(str::to_owned).collect(), left_out.to_owned())
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> String {
    let mut names: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(names.pop()),
            Component::Normal(name) => names.push(name.to_str().unwrap()),
            _ => (),
        }
    }
    names.join("/")
}

#[test]
fn installed_pages_link_only_to_installed_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (names, left_out) = installed();
    let is_installed = |path: &str| {
        let is_below = |name: &String| path == name || path.starts_with(&format!("{name}/"));
        names.iter().any(is_below) && !format!("/{path}").contains(&left_out)
    };
    assert!(is_installed("docs/operate/grafana-dashboard.json") && is_installed("docs/adr/README.md"));
    assert!(!is_installed("docs/man/help.txt") && !is_installed("debian/control"));
    let mut all = pages();
    all.extend(
        ROOT_PAGES.iter().map(|name| ((*name).to_owned(), fs::read_to_string(root.join(name)).unwrap())),
    );
    for (page, text) in all.iter().filter(|(page, _)| is_installed(page)) {
        for target in targets(&prose(text)) {
            let path = target.split('#').next().unwrap_or_default();
            if target.contains("://") || path.is_empty() {
                continue;
            }
            let file = plain(&Path::new(page).parent().unwrap().join(path));
            assert!(is_installed(&file), "{page} links to {target}, which no package has");
        }
    }
}

#[test]
fn headings_become_anchors() {
    assert_eq!(anchor(" `nodegate compare`: what's *new*? "), "nodegate-compare-whats-new");
    assert_eq!(targets("a [b](c.md#d) e\n[f]: g.md\n"), ["c.md#d", "g.md"]);
    assert_eq!(prose("a\n```\n[b](c)\n```\nd\n"), "a\nd\n");
}
