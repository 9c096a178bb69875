//! Template Toolkit's own test suite, out of Debian's source package. It is fetched once and kept under `target/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use nodegate::testing::handler::{Template, TemplateSyntax};
use serde_json::Value;

use super::data;

/// Cases that nodegate does not pass, each with its reason: `FILE NUMBER: REASON`, or `FILE: REASON` for a whole file.
const EXCLUSIONS: &str = "suite.txt";

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/template-suite")
}

/// The mirror that this machine's packages come from, and its release.
fn mirror() -> (String, String) {
    let release = fs::read_to_string("/etc/os-release").unwrap();
    let release = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap().to_owned();
    let lists = fs::read_dir("/etc/apt/sources.list.d").unwrap().map(|entry| entry.unwrap().path());
    let texts = lists
        .chain([PathBuf::from("/etc/apt/sources.list")])
        .filter_map(|path| fs::read_to_string(path).ok());
    let mirror = texts
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"));
    (mirror.unwrap_or_else(|| "http://deb.debian.org/debian".to_owned()), release)
}

fn done(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where the suite lies.
fn suite() -> PathBuf {
    let folder = kept();
    let unpacked = || {
        let entries = fs::read_dir(&folder).ok()?;
        entries.map(|entry| entry.unwrap().path()).find(|path| path.join("t/vars.t").exists())
    };
    if let Some(found) = unpacked() {
        return found;
    }
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    let (mirror, release) = mirror();
    let sources = folder.join("sources.list");
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    fs::write(&sources, format!("deb-src [signed-by={keyring}] {mirror} {release} main\n")).unwrap();
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(&folder);
        for (key, path) in
            [("Etc::sourcelist", "sources.list"), ("State::lists", "lists"), ("Cache", "cache")]
        {
            command.arg("-o").arg(format!("Dir::{key}={}", folder.join(path).display()));
        }
        command.args(["-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=root"]).args(words);
        done(&mut command);
    };
    apt(&["update"]);
    apt(&["source", "--tar-only", "libtemplate-perl"]);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let archive = entries.into_iter().find(|path| path.to_string_lossy().contains(".orig.tar.")).unwrap();
    done(Command::new("tar").arg("xf").arg(archive).current_dir(&folder));
    unpacked().expect("the source package holds the suite")
}

/// The cases of a file; none where it needs modules that are not there.
fn cases(suite: &Path, file: &str) -> Vec<Value> {
    let output = Command::new("timeout")
        .args(["30", "perl"])
        .arg(data("suite.pl"))
        .arg(file)
        .current_dir(suite)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn files(suite: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["t", "t/vmethods"] {
        for entry in fs::read_dir(suite.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            // those that begin with zz look at the Perl code itself
            if path.extension().is_some_and(|end| end == "t") && !name.starts_with("zz-") {
                names.push(format!("{folder}/{name}"));
            }
        }
    }
    names.sort();
    names
}

fn page(case: &Value, part: &str) -> Option<String> {
    let has = |option: &str| case["options"].as_array().unwrap().iter().any(|known| known == option);
    let syntax = TemplateSyntax {
        interpolate: has("INTERPOLATE"),
        any_case: has("ANYCASE"),
        plain_dollar: has("V1DOLLAR"),
        chomp: ["PRE_CHOMP", "POST_CHOMP"].map(|name| {
            let flags = [(1, '-'), (2, '='), (3, '~')];
            flags.iter().find(|(value, _)| has(&format!("{name}={value}"))).map(|(_, flag)| *flag)
        }),
    };
    let given = case["given"].as_str().unwrap();
    let given = if given.is_empty() { String::new() } else { format!("[%+ SET {given} +%]") };
    let text = format!("{given}{}", case[part].as_str().unwrap());
    let template = Template::parse_with(text.as_bytes(), syntax).ok()?;
    template.render(&|_| None, SystemTime::now()).ok().map(|rendered| rendered.page)
}

/// As the suite compares: line ends at the end do not count.
fn passes(case: &Value) -> bool {
    let expected = if case["is_processed"] == true {
        page(case, "expected")
    } else {
        case["expected"].as_str().map(str::to_owned)
    };
    let trimmed = |text: String| text.trim_end_matches(['\r', '\n']).to_owned();
    page(case, "template").map(trimmed) == expected.map(trimmed)
}

#[test]
fn template_toolkits_suite_passes_but_for_listed_cases() {
    let suite = suite();
    let text = fs::read_to_string(data(EXCLUSIONS)).unwrap();
    let listed: BTreeMap<&str, &str> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": ")).collect();
    assert!(listed.values().all(|reason| !reason.trim().is_empty()));
    let (mut passed, mut failed, mut count) = (BTreeSet::new(), BTreeSet::new(), 0);
    for file in files(&suite) {
        let cases = cases(&suite, &file);
        if listed.contains_key(file.as_str()) {
            continue;
        }
        for (number, case) in cases.iter().enumerate() {
            count += 1;
            let name = format!("{file} {}", number + 1);
            if passes(case) {
                passed.insert(name)
            } else {
                failed.insert(name)
            };
        }
    }
    let unlisted: Vec<_> = failed.iter().filter(|name| !listed.contains_key(name.as_str())).collect();
    assert!(unlisted.is_empty(), "cases that fail and are not listed: {unlisted:#?}");
    let needless: Vec<_> = passed.iter().filter(|name| listed.contains_key(name.as_str())).collect();
    assert!(needless.is_empty(), "cases that pass and are listed: {needless:#?}");
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/templates.md"))
        .unwrap();
    let share = format!("{} of {count} cases", passed.len());
    assert!(docs.contains(&share), "docs/reference/templates.md must say: {share}");
}
