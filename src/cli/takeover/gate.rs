//! The checks before the switch. If one fails, nothing has changed.

use std::process::ExitCode;

use super::CompareOptions;
use super::access_log::{self, LineFilter};
use super::health::{self, HealthTargets};
use super::rehearsal::Rehearsal;
use super::subject::Subject;
use super::verdict::AnswerCounts;
use crate::cli::{complain, fail, port_owner, say};

/// The state of the original before the switch. The guard compares nodegate with it.
pub(super) struct OriginalState {
    pub(super) targets: HealthTargets,
    pub(super) baseline: AnswerCounts,
}

pub(super) fn check(subject: &Subject, options: &CompareOptions) -> Result<OriginalState, ExitCode> {
    if subject.config.has_errors() {
        complain(&subject.config.problems);
        return Err(refuse(subject, "the settings have errors"));
    }
    check_unit(subject)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| fail(&error.to_string()))?;
    let targets = runtime.block_on(targets(subject))?;
    let baseline = baseline(subject, &targets);
    say(&format!("access log: {baseline} were errors before"));
    say("rehearsal: nodegate starts beside the original, on a port of this machine");
    let rehearsal = Rehearsal::start(subject).map_err(|log| {
        report(&log);
        refuse(subject, "nodegate does not start in its unit (above: its log)")
    })?;
    rehearsal.check_settings().map_err(|problems| {
        report(&problems);
        refuse(subject, &format!("nodegate check {} finds errors", subject.profile))
    })?;
    runtime.block_on(rehearsal.check_health(&targets)).map_err(|reason| {
        refuse(subject, &format!("nodegate does not answer what the original answers: {reason}"))
    })?;
    compare(subject, &rehearsal, options)?;
    Ok(OriginalState { targets, baseline })
}

fn refuse(subject: &Subject, reason: &str) -> ExitCode {
    fail(&format!("{reason}\nnothing was changed: {} is the original", subject.unit.name))
}

fn report(text: &str) {
    complain(&[text]);
}

/// The original runs, and no foreign program has its port or one of the `[[listener]]` tables.
fn check_unit(subject: &Subject) -> Result<(), ExitCode> {
    let unit = &subject.unit.name;
    let ports = port_owner::listening_ports(subject.daemon())
        .map_err(|error| refuse(subject, &format!("the kernel's list of sockets cannot be read: {error}")))?;
    let foreign = subject.config.settings.listeners.iter().filter_map(|listener| {
        let (port, address) = (listener.listen.port, port_owner::literal_address(&listener.listen));
        let mut holders = ports.iter().filter(|found| found.overlaps(port, address));
        let owner = holders.find(|found| found.is_foreign_to(unit))?.owner()?;
        Some(format!(
            "port {port} is held by '{}' (pid {}), which does not belong to {unit}: stop that program first",
            owner.command, owner.pid
        ))
    });
    let foreign: Vec<_> = foreign.collect();
    if !foreign.is_empty() {
        return Err(refuse(subject, &foreign.join("\n")));
    }
    match subject.unit.state().as_str() {
        "active" => Ok(()),
        state => {
            let message = format!("{unit} does not run ({state}): start it first (systemctl start {unit})");
            Err(refuse(subject, &message))
        }
    }
}

async fn targets(subject: &Subject) -> Result<HealthTargets, ExitCode> {
    let address = match subject.address() {
        Ok(address) => address,
        Err(reason) => {
            say(&format!("{reason}: only the unit and the error rate are watched"));
            return Ok(HealthTargets::default());
        }
    };
    let product = &subject.config.product;
    let server =
        health::server(product, address, subject.config.own_port).map_err(|message| fail(&message))?;
    let targets = HealthTargets::answered_by(&server, product).await;
    if targets.is_empty() {
        let message = format!("the original {} answers none of its pages and calls", subject.daemon());
        return Err(refuse(subject, &message));
    }
    say(&format!("the original {} answers {}", subject.daemon(), targets.text()));
    Ok(targets)
}

/// An earlier trial has left its own requests in the log.
fn baseline(subject: &Subject, targets: &HealthTargets) -> AnswerCounts {
    let guard = subject.address().ok().map(|address| (address, targets.iter().cloned().collect()));
    let filter = LineFilter { protocol: subject.config.product.protocol, guard };
    let log = subject.config.settings.access_log.as_deref();
    log.map_or_else(AnswerCounts::default, |log| access_log::baseline(log, &filter))
}

fn compare(subject: &Subject, rehearsal: &Rehearsal<'_>, options: &CompareOptions) -> Result<(), ExitCode> {
    if !options.is_wanted() {
        return Ok(());
    }
    let is_equal = rehearsal.compare(options).map_err(|message| fail(&message))?;
    if is_equal || options.accept_differences {
        return Ok(());
    }
    Err(refuse(
        subject,
        "the comparison with the original is not good (above); --accept-differences goes on all the same",
    ))
}
