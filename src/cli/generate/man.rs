//! The manual page nodegate(1): the command line's own definition, and the notes of `--help`.

use std::io;

use clap::{Arg, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::markup::marked_up;
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
        roff.control("TP", []);
        roff.text([bold(command.get_name()), italic(arguments(command))]);
        roff.text(marked_up(&command.get_about().map(ToString::to_string).unwrap_or_default()));
        for option in command.get_arguments().filter(|option| is_own_option(option)) {
            roff.control("RS", []);
            roff.control("TP", []);
            roff.text([bold(name(option)), italic(value(option))]);
            roff.text(marked_up(&help(option)));
            roff.control("RE", []);
        }
    }
    roff
}

/// The arguments behind the name of a command.
fn arguments(command: &Command) -> String {
    let argument = |argument: &Arg| {
        let names = argument.get_value_names().unwrap_or_default();
        let name = names.first().map_or("", |name| name.as_str());
        let more =
            if argument.get_num_args().is_some_and(|count| count.max_values() > 1) { "..." } else { "" };
        if argument.is_required_set() { format!(" {name}{more}") } else { format!(" [{name}]") }
    };
    command.get_positionals().map(argument).collect()
}

fn name(option: &Arg) -> String {
    format!("--{}", option.get_long().unwrap_or_default())
}

/// The value behind an option.
fn value(option: &Arg) -> String {
    let names = option.get_value_names().filter(|_| option.get_action().takes_values());
    names.and_then(|names| names.first()).map(|name| format!(" {name}")).unwrap_or_default()
}

/// The explanation of an option, with its default.
fn help(option: &Arg) -> String {
    let help = option.get_help().map(ToString::to_string).unwrap_or_default();
    match option.get_default_values() {
        [default] if option.get_action().takes_values() => {
            format!("{help} [default: {}]", default.to_string_lossy())
        }
        _ => help,
    }
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
                roff.text(marked_up(words));
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

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/operate/commands.md");

    /// The rows of the tables of commands and of their options.
    fn rows(command: &Command) -> Vec<String> {
        let shown = |command: &&Command| !command.is_hide_set();
        let row = |command: &Command| {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            format!("| `nodegate {}{}` | {about} |", command.get_name(), arguments(command))
        };
        let options = command.get_subcommands().filter(shown).flat_map(|command| {
            let options = command.get_arguments().filter(|option| is_own_option(option));
            options.map(|option| {
                let (name, value) = (name(option), value(option));
                format!("| `{}` | `{name}{value}` | {} |", command.get_name(), help(option))
            })
        });
        let global = command.get_arguments().filter(|option| option.is_global_set());
        let global =
            global.map(|option| format!("| `{}{}` | {} |", name(option), value(option), help(option)));
        command.get_subcommands().filter(shown).map(row).chain(global).chain(options).collect()
    }

    #[test]
    fn the_page_has_the_commands_of_help() {
        let mut command = Arguments::command().disable_help_subcommand(true);
        command.build();
        let expected = rows(&command);
        let missing: Vec<_> = expected.iter().filter(|row| !PAGE.lines().any(|line| line == **row)).collect();
        assert!(missing.is_empty(), "docs/operate/commands.md lacks {missing:#?}");
        let documented = PAGE.lines().filter(|line| {
            line.starts_with("| `nodegate ") || line.contains("| `--") || line.starts_with("| `--")
        });
        let unknown: Vec<_> = documented.filter(|line| !expected.iter().any(|row| row == line)).collect();
        assert!(unknown.is_empty(), "docs/operate/commands.md has {unknown:#?}");
    }

    /// The exit codes of `--help`: each explanation is a row of the page.
    #[test]
    fn the_page_has_the_exit_codes_of_help() {
        let (_, part) = NOTES.split_once("\nExit codes\n").unwrap();
        let mut lines = part.lines().map(str::trim).take_while(|line| !line.is_empty());
        let mut count = 0;
        while let (Some(code), Some(meaning)) = (lines.next(), lines.next()) {
            let row = format!("| {code} | {meaning} |");
            assert!(PAGE.lines().any(|line| line == row), "docs/operate/commands.md lacks {row}");
            count += 1;
        }
        assert_eq!(count, 4);
    }
}
