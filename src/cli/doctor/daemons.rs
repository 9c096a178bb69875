//! The daemons of this machine: whether they answer a call that needs no login, and how fast.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;

use super::deadline;
use super::finding::Finding;
use super::subject::Subject;
use crate::config::product::Protocol;
use crate::config::settings::{BackendAddress, TimeoutSettings};
use crate::http::api_grammar::ApiGrammar;
use crate::metrics::upstreams::UpstreamRecords;
use crate::upstream::client::{FailurePhase, LocalDaemon, SendError, UpstreamClient};
use crate::upstream::request::UpstreamRequest;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);
const PROBE_TIMEOUT: Duration = Duration::from_secs(9);
/// The call reads one small file, so an idle daemon answers within milliseconds.
const SLOW_ANSWER: Duration = Duration::from_secs(1);

/// A daemon to ask.
#[derive(Clone)]
struct AskedDaemon {
    name: &'static str,
    address: BackendAddress,
    is_worker: bool,
}

#[derive(Debug)]
enum Outcome {
    Answered {
        status: u16,
        took: Duration,
    },
    /// it accepts no connection
    Unreachable(String),
    /// it accepts a connection, and sends no response
    Silent(String),
}

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    let settings = &subject.config.settings;
    if subject.config.product.protocol == Protocol::Connect {
        return vec![Finding::ok("the profile needs no daemon of this machine")];
    }
    let daemon =
        AskedDaemon { name: "the daemon", address: settings.backend.address.clone(), is_worker: false };
    // Only nodegate asks the worker, and its unit starts it.
    let needs_worker = subject.original().is_none();
    let worker = settings.unprivileged.iter().filter(|_| needs_worker).map(|address| AskedDaemon {
        name: "the worker without root",
        address: address.clone(),
        is_worker: true,
    });
    let target = target(subject);
    let timeouts = TimeoutSettings { connect: CONNECT_TIMEOUT, answer: ANSWER_TIMEOUT, ..settings.timeout };
    let asked = [daemon].into_iter().chain(worker).collect();
    let outcomes =
        deadline::run_all(asked, PROBE_TIMEOUT, move |it| ask(it.address.clone(), &target, timeouts));
    let evaluate = |(asked, outcome): (AskedDaemon, Option<Outcome>)| {
        let outcome = outcome.unwrap_or_else(|| Outcome::Silent("no answer in time".to_owned()));
        evaluate(subject, &asked, &outcome)
    };
    outcomes.into_iter().map(evaluate).collect()
}

/// A call that needs neither login nor root, if the route table has one: a login that fails is delayed on purpose.
fn target(subject: &Subject) -> String {
    let open = subject.config.routes.table.open_path();
    let api = ApiGrammar::new(&subject.config.product).ok();
    open.zip(api).and_then(|(path, api)| api.json_target(path)).unwrap_or_else(|| "/".to_owned())
}

fn ask(address: BackendAddress, target: &str, timeouts: TimeoutSettings) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::Silent(error.to_string()),
    };
    let health = Arc::clone(&UpstreamRecords::default().daemon);
    let client = UpstreamClient::local(LocalDaemon::new(address, None), false, timeouts, health);
    let Some(mut request) = UpstreamRequest::new(Method::GET, target, ANSWER_TIMEOUT) else {
        return Outcome::Silent(format!("'{target}' is no target"));
    };
    request.header(&http::header::HOST, &http::HeaderValue::from_static("localhost"));
    request.header(&http::header::CONNECTION, &http::HeaderValue::from_static("close"));
    request.add_user_agent();
    let started = Instant::now();
    match runtime.block_on(client.send(request)) {
        Ok(response) => {
            Outcome::Answered { status: response.response.status().as_u16(), took: started.elapsed() }
        }
        Err(SendError::Failed(error)) if error.phase == FailurePhase::Connect => {
            Outcome::Unreachable(error.cause)
        }
        Err(SendError::Failed(error)) => Outcome::Silent(error.cause),
        Err(SendError::Queue(error)) => Outcome::Silent(error.to_string()),
    }
}

fn evaluate(subject: &Subject, asked: &AskedDaemon, outcome: &Outcome) -> Finding {
    let AskedDaemon { name, address, is_worker } = asked;
    let restart =
        if *is_worker { worker_unit(subject) } else { subject.config.product.doctor.restart_daemon.clone() };
    let restart = restart.unwrap_or_else(|| format!("start the program that serves {address}"));
    let why = if *is_worker {
        "the daemon with root answers its calls, and pages that only the worker renders fail"
    } else {
        "logins and API calls fail with 595 or 596"
    };
    match outcome {
        Outcome::Unreachable(cause) if *is_worker && cause.contains("Permission denied") => {
            Finding::note(format!("{name} at {address} was not asked: {cause}"))
                .because("only root and the serving user may connect")
                .mend(format!("sudo {}", subject.command("doctor")))
        }
        Outcome::Unreachable(cause) if *is_worker => {
            Finding::warning(format!("{name} at {address} accepts no connection: {cause}"))
                .because(why)
                .mend(restart)
        }
        Outcome::Unreachable(cause) => {
            Finding::error(format!("{name} at {address} accepts no connection: {cause}"))
                .because(why)
                .mend(restart)
        }
        Outcome::Silent(cause) => {
            Finding::error(format!("{name} at {address} accepts a connection and sends no response: {cause}"))
                .because(
                    "all its workers are busy or hang, or it ends again and again: calls wait, and some fail with 596",
                )
                .mend(format!("{} # the running calls; if they hang: {restart}", subject.command("status")))
        }
        Outcome::Answered { took, .. } if *took >= SLOW_ANSWER => {
            Finding::warning(format!("{name} at {address} needs {} for a small call", milliseconds(*took)))
                .because("every call of every user waits for its workers")
                .mend(format!("{} # the slow and the costliest calls", subject.command("status")))
        }
        Outcome::Answered { status, took } => {
            Finding::ok(format!("{name} at {address} answers {status} within {}", milliseconds(*took)))
        }
    }
}

fn worker_unit(subject: &Subject) -> Option<String> {
    let package = subject.config.product.worker_package.as_ref()?;
    Some(format!("systemctl restart {package}-worker; journalctl -u {package}-worker -n 50"))
}

pub(super) fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis().max(1))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn subject() -> Subject {
        Subject::of_test("pve")
    }

    #[test]
    fn an_open_call_of_the_table_is_asked() {
        assert_eq!(target(&subject()), "/api2/json/access/domains");
    }

    #[test]
    fn outcomes_become_findings() {
        let daemon = |is_worker| AskedDaemon {
            name: "it",
            address: BackendAddress::Tcp("127.0.0.1:85".to_owned()),
            is_worker,
        };
        let answered = |took| Outcome::Answered { status: 200, took: Duration::from_millis(took) };
        let cases = [
            (false, answered(3), Level::Ok, "answers 200 within 3 ms"),
            (false, answered(2500), Level::Warning, "needs 2500 ms"),
            (
                false,
                Outcome::Unreachable("Connection refused".to_owned()),
                Level::Error,
                "Connection refused",
            ),
            (
                true,
                Outcome::Unreachable("Connection refused".to_owned()),
                Level::Warning,
                "Connection refused",
            ),
            (true, Outcome::Unreachable("Permission denied".to_owned()), Level::Note, "was not asked"),
            (false, Outcome::Silent("timed out".to_owned()), Level::Error, "sends no response"),
        ];
        for (is_worker, outcome, level, text) in cases {
            let finding = evaluate(&subject(), &daemon(is_worker), &outcome);
            assert!(finding.level == level && finding.what.contains(text), "{finding:?}");
            assert!(level == Level::Ok || finding.why.is_some() && finding.mend.is_some(), "{finding:?}");
        }
    }
}
