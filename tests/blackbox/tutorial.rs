//! The tutorial of `docs/reference/profile.md`, step by step as its reader does it: files written, commands run in one shell, what
//! they print compared.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::nodegate::free_port;

/// A fenced block: its language and, for a file, where it goes.
struct Block<'a> {
    language: &'a str,
    file: Option<&'a str>,
    text: String,
}

fn blocks(chapter: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = chapter.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let (language, file) = info.split_once(' ').map_or((info, None), |(name, file)| (name, Some(file)));
        let text = lines
            .by_ref()
            .take_while(|line| *line != "```")
            .fold(String::new(), |text, line| text + line + "\n");
        blocks.push(Block { language, file, text });
    }
    blocks
}

/// A shell script that does all of it. After each command it prints a mark.
fn script(blocks: &[Block<'_>]) -> (String, Vec<(String, Vec<String>)>) {
    let mut script = String::from("exec 2>&1\ntrap 'kill $(jobs -p); wait' EXIT\n");
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for block in blocks {
        if let Some(file) = block.file {
            writeln!(script, "cat >>{file} <<'END OF FILE'\n{}END OF FILE", block.text).unwrap();
            continue;
        }
        assert_eq!(block.language, "console", "a block is a file or commands");
        for line in block.text.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                writeln!(script, "{command}\nprintf '\\nstep {} done\\n'", steps.len()).unwrap();
                steps.push((command.to_owned(), Vec::new()));
            } else {
                steps.last_mut().unwrap().1.push(line.to_owned());
            }
        }
    }
    (script, steps)
}

#[test]
fn a_product_in_an_afternoon() {
    let book = include_str!("../../docs/reference/profile.md");
    let chapter = book.split_once("## A new product in an afternoon").unwrap().1;
    let (door, daemon) = (free_port(), free_port());
    let chapter = chapter.replace("9443", &door.to_string()).replace("9085", &daemon.to_string());
    let (script, steps) = script(&blocks(&chapter));
    assert!(steps.len() > 20, "{} steps", steps.len());
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_nodegate")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(folder.path()).env("PATH", path).stdin(Stdio::null());
    let output = shell.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut rest: &str = &printed;
    for (number, (command, expected)) in steps.iter().enumerate() {
        let (said, behind) = rest
            .split_once(&format!("\nstep {number} done\n"))
            .unwrap_or_else(|| panic!("'{command}' did not end: {printed}"));
        rest = behind;
        for line in expected {
            assert!(said.contains(line), "'{command}' prints no '{line}':\n{said}\nall of it:\n{printed}");
        }
    }
}
