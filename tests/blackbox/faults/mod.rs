//! Faults of the machine: if one part fails, all others go on.

mod clock;
mod cluster_files;
mod daemon;
mod network;
mod panic;
mod resources;

use std::process::Command;

/// The command inside another one that replaces itself with it, so that the process is the same.
fn within(outer: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(outer[0]);
    command.args(&outer[1..]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}
