//! Page templates beside Template Toolkit itself, and in a browser.

mod pages;
mod suite;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates").join(name)
}

/// The output of a program for JSON on its stdin.
fn run(command: &mut Command, input: &Value) -> Value {
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let input = input.to_string();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = process.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    serde_json::from_slice(&output.stdout).expect("the program ends with JSON")
}

/// The pages that Template Toolkit makes of templates and values; `None` where it refuses one.
fn template_toolkit(cases: &Value) -> Vec<Option<String>> {
    let pages = run(Command::new("perl").arg(data("render.pl")), cases);
    pages.as_array().unwrap().iter().map(|page| page.as_str().map(str::to_owned)).collect()
}
