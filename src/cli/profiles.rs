//! `nodegate profiles [NAME]`.

use std::io::Write as _;
use std::process::ExitCode;

use crate::config::{built_in_profile, built_in_profiles};

pub fn run(name: Option<&str>) -> ExitCode {
    let Some(name) = name else {
        for name in built_in_profiles() {
            super::say(&name);
        }
        return ExitCode::SUCCESS;
    };
    let Some(text) = built_in_profile(name) else {
        let known = built_in_profiles().join(", ");
        return super::fail(&format!("no profile '{name}'; the built-in ones are {known}"));
    };
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
