//! The manual page nodegate(1): the command line's own definition, and the notes of `--help`.

use std::io;

use clap::{Arg, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::cli::arguments::{Arguments, NOTES};

pub(crate) fn page() -> io::Result<Vec<u8>> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let man = Man::new(command.clone()).manual("nodegate");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis().to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    commands(&command).to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    notes(NOTES).to_writer(&mut page)?;
    see_also("nodegate.toml", "5").to_writer(&mut page)?;
    Ok(page)
}

fn synopsis() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold("nodegate"), roman(" [OPTIONS] "), italic("COMMAND"), roman(" ...")]);
    roff
}

/// Each command with its arguments.
fn commands(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let takes = command.get_positionals().map(|argument| {
            let names = argument.get_value_names().unwrap_or_default();
            let name = names.first().map_or("", |name| name.as_str());
            if argument.is_required_set() { format!(" {name}") } else { format!(" [{name}]") }
        });
        roff.control("TP", []);
        roff.text([bold(command.get_name()), italic(takes.collect::<String>())]);
        roff.text([roman(command.get_about().map(ToString::to_string).unwrap_or_default())]);
        for option in command.get_arguments().filter(|option| is_own_option(option)) {
            let value = option.get_value_names().filter(|_| option.get_action().takes_values());
            let value = value.and_then(|names| names.first()).map(|name| format!(" {name}"));
            let name = format!("--{}", option.get_long().unwrap_or_default());
            roff.control("RS", []);
            roff.control("TP", []);
            roff.text([bold(name), italic(value.unwrap_or_default())]);
            roff.text([roman(option.get_help().map(ToString::to_string).unwrap_or_default())]);
            roff.control("RE", []);
        }
    }
    roff
}

fn is_own_option(argument: &Arg) -> bool {
    !argument.is_positional()
        && !argument.is_global_set()
        && !argument.is_hide_set()
        && argument.get_id() != "help"
}

/// Headings are not indented; terms have two blanks before them, and their explanations six.
pub(crate) fn notes(text: &str) -> Roff {
    let mut roff = Roff::new();
    for line in text.lines() {
        let words = line.trim_start();
        match line.len() - words.len() {
            _ if words.is_empty() => (),
            0 => {
                roff.control("SH", [words.to_uppercase().as_str()]);
            }
            2 => {
                roff.control("TP", []);
                roff.text([bold(words)]);
            }
            _ => {
                roff.text([roman(words)]);
            }
        }
    }
    roff
}

pub(crate) fn see_also(name: &str, section: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold(name), roman(format!("({section})"))]);
    roff
}
