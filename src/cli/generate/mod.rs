//! `nodegate generate man|completions DIR`: the files that a package has besides the binary.

mod man;
mod markup;
mod settings_page;

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_complete::aot::generate_to;

use crate::cli::arguments::{Arguments, GeneratedFiles};

pub fn run(what: GeneratedFiles, directory: &Path) -> ExitCode {
    let written = fs::create_dir_all(directory).and_then(|()| match what {
        GeneratedFiles::Man => manual_pages(directory),
        GeneratedFiles::Completions => completions(directory),
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&format!("{}: {error}", directory.display())),
    }
}

fn manual_pages(directory: &Path) -> io::Result<()> {
    fs::write(directory.join("nodegate.1"), man::page()?)?;
    fs::write(directory.join("nodegate.toml.5"), settings_page::page()?)
}

fn completions(directory: &Path) -> io::Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Arguments::command(), "nodegate", directory)?;
    }
    Ok(())
}
