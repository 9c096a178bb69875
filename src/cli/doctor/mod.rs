//! `nodegate doctor PROFILE`: why does it not work? Everything that `check` does, and what only a running node shows.
//!
//! Each probe looks, and a pure function turns what it saw into findings. No probe changes anything, and each has a
//! deadline.

mod bundle;
mod clock;
mod daemons;
mod deadline;
mod disk;
mod files;
mod finding;
mod names;
mod network;
mod nodes;
mod ports;
mod process;
mod product;
mod report;
mod service;
mod settings;
mod subject;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::finding::{Finding, Probe};
use self::report::Report;
use self::subject::Subject;
use super::{fail, say};
use crate::config::{Config, ConfigSources};
use crate::metrics::report::seconds_since_1970;

/// For the settings themselves.
const LOAD_TIMEOUT: Duration = Duration::from_secs(4);
/// For all probes together, which run at the same time.
const PROBE_TIMEOUT: Duration = Duration::from_secs(12);

pub struct DoctorOutput {
    pub json: bool,
    /// the file for a support bundle
    pub bundle: Option<PathBuf>,
}

pub fn run(profile: &str, options: &ConfigSources, output: &DoctorOutput) -> ExitCode {
    let refused = |file: &Path, error: &dyn Display| fail(&format!("{}: {error}", file.display()));
    if let Some(file) = &output.bundle
        && let Err(error) = bundle::check_destination(file)
    {
        return refused(file, &error);
    }
    let started = Instant::now();
    let (subject, findings) = match load(profile, options) {
        Ok(config) => {
            let subject = Arc::new(Subject::new(config, profile, options));
            let findings = look(&subject);
            (Some(subject), findings)
        }
        Err(findings) => (None, findings),
    };
    let report = Report::new(
        profile.to_owned(),
        seconds_since_1970(),
        nix::unistd::geteuid().is_root(),
        started.elapsed(),
        findings,
    );
    if output.json {
        say(&report.to_json().to_string());
    } else {
        say(report.to_text().trim_end());
    }
    if let Some(file) = &output.bundle {
        if let Err(error) = bundle::write(file, &report, subject.as_ref()) {
            return refused(file, &error);
        }
        if !output.json {
            say(&format!("\nbundle    {}; look into it before you send it", file.display()));
        }
    }
    if report.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The configuration, or why there is none.
fn load(profile: &str, options: &ConfigSources) -> Result<Config, Vec<(Probe, Finding)>> {
    let (name, options) = (profile.to_owned(), options.clone());
    let loaded = deadline::run_all(vec![()], LOAD_TIMEOUT, move |()| Config::load(&name, &options));
    let problems = match loaded.into_iter().next().and_then(|((), loaded)| loaded) {
        Some(Ok(config)) => return Ok(config),
        Some(Err(problems)) => settings::unusable(profile, &problems),
        None => vec![unfinished(Probe::Settings, LOAD_TIMEOUT)],
    };
    Err(problems.into_iter().map(|finding| (Probe::Settings, finding)).collect())
}

/// Runs all probes at the same time.
fn look(subject: &Arc<Subject>) -> Vec<(Probe, Finding)> {
    let subject = Arc::clone(subject);
    let results = deadline::run_all(Probe::ALL.to_vec(), PROBE_TIMEOUT, move |probe| match probe {
        Probe::Settings => settings::probe(&subject),
        Probe::Process => process::probe(&subject),
        Probe::Ports => ports::probe(&subject),
        Probe::Service => service::probe(&subject),
        Probe::Daemons => daemons::probe(&subject),
        Probe::Nodes => nodes::probe(&subject),
        Probe::Names => names::probe(&subject),
        Probe::Clock => clock::probe(&subject),
        Probe::Files => files::probe(&subject),
        Probe::Disk => disk::probe(&subject),
        Probe::Network => network::probe(&subject),
        Probe::Product => product::probe(&subject),
    });
    let with_probe = |(probe, findings): (Probe, Option<Vec<Finding>>)| {
        let findings = findings.unwrap_or_else(|| vec![unfinished(probe, PROBE_TIMEOUT)]);
        findings.into_iter().map(move |finding| (probe, finding))
    };
    results.into_iter().flat_map(with_probe).collect()
}

fn unfinished(probe: Probe, limit: Duration) -> Finding {
    Finding::warning(format!("the probe '{}' did not end within {} s", probe.name(), limit.as_secs()))
        .because("a file system, a name server or a process does not answer")
        .mend("ps -eo pid,stat,wchan:30,args | awk '$2 ~ /D/' # processes that hang")
}
