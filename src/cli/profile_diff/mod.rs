//! `nodegate profile-diff PROFILE`: what the installed product serves, against the route table and the profile in use.

mod consequence;
mod difference;
mod installed;
mod page_links;
mod report;
mod table_file;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use self::installed::InstalledProduct;
use self::report::DiffReport;
use super::{complain, fail, say};
use crate::config::{Config, ConfigSources};

/// Without a comparison. Code 1 means that something differs.
const NOT_COMPARED: u8 = 2;

#[derive(Args, Clone, Debug)]
pub struct ProfileDiffOptions {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write the installed product's route table into this file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Longest time to read the installed product
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

pub fn run(profile: &str, options: &ConfigSources, wanted: &ProfileDiffOptions) -> ExitCode {
    let config = match Config::load(profile, options) {
        Ok(config) if !config.has_errors() => config,
        Ok(Config { problems, .. }) | Err(problems) => {
            complain(&problems);
            return ExitCode::from(NOT_COMPARED);
        }
    };
    let installed = match InstalledProduct::read(&config, Duration::from_secs(wanted.timeout)) {
        Ok(installed) => installed,
        Err(error) => return not_compared(&config, wanted, &error),
    };
    let report = DiffReport::new(profile, &config, &installed);
    let written = wanted.write.as_ref().map(|file| {
        let added = difference::added_lines(&config, &installed);
        table_file::write(file, &table_file::render(profile, &installed, &added))
    });
    if let (Some(Err(error)), Some(file)) = (&written, &wanted.write) {
        return not_compared(&config, wanted, &format!("{} cannot be written: {error}", file.display()));
    }
    if wanted.json {
        say(&report.to_json().to_string());
    } else {
        say(report.to_text(wanted.write.as_deref()).trim_end());
    }
    if report.differs() && written.is_none() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn not_compared(config: &Config, wanted: &ProfileDiffOptions, reason: &str) -> ExitCode {
    if wanted.json {
        say(&json!({ "profile": config.product.name, "error": reason }).to_string());
    }
    let _ = fail(&format!("the installed product was not compared: {reason}"));
    ExitCode::from(NOT_COMPARED)
}
