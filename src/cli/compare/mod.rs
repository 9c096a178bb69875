//! `nodegate compare PROFILE`: sends the same requests to the original and to a trial, and shows the differences.

pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod credential;
pub(crate) mod difference;
mod html;
mod pair;
mod rate;
pub(crate) mod requests;
pub(in crate::cli) mod secrets;
mod status_line;
pub(crate) mod structure;
pub(crate) mod summary;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::client::ComparedServer;
use self::pair::ServerPair;
use self::requests::{LoggedRequests, RepeatRules};
use self::secrets::SecretMask;
use self::summary::{CallOutcome, ComparisonSummary};
use super::{CommandResult, fail, load, say, write_to_stderr};
use crate::cli::compare::rate::RequestRate;
use crate::config::{Config, ConfigSources};

/// Concurrent calls, so that slow ones do not slow the others down.
const CALLS_AT_ONCE: usize = 8;

/// The requests to compare, and their rate.
#[derive(Args, Debug)]
pub struct ComparisonOptions {
    /// Access log with the GETs, newest first [default: the profile's]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The original [default: the product's own port on this machine]
    #[arg(long, value_name = "URL")]
    against: Option<String>,
    /// Stop after so many seconds
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Requests a second, to each of the two
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// File with a header: `Authorization: …` or `Cookie: …`
    #[arg(long, value_name = "FILE", conflicts_with = "credential_variable")]
    credential_file: Option<PathBuf>,
    /// Environment variable with the same
    #[arg(long, value_name = "NAME")]
    credential_variable: Option<String>,
}

pub fn run(profile: &str, options: &ConfigSources, comparison: &ComparisonOptions) -> CommandResult {
    let config = load(profile, options)?;
    let prepared = RepeatRules::new(&config).and_then(|rules| {
        let log = comparison.log.clone().or_else(|| config.settings.access_log.clone());
        let log = log.ok_or("the profile names no access log: give one with --log")?;
        let requests =
            requests::read_log(&log, &rules).map_err(|error| format!("{}: {error}", log.display()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        Ok((Arc::new(pair(&config, comparison, rules)?), log, requests, runtime))
    });
    let (pair, log, requests, runtime) = prepared.map_err(|message| fail(&message))?;
    if requests.targets.is_empty() {
        let message = format!("{}: has no GET request that may be replayed", log.display());
        return Ok(cannot_begin(&message));
    }
    Ok(runtime.block_on(compare(&pair, &requests, comparison)))
}

fn pair(config: &Config, comparison: &ComparisonOptions, rules: RepeatRules) -> Result<ServerPair, String> {
    let port = config.settings.listen.port;
    if comparison.against.is_none() && port == config.own_port {
        return Err(format!(
            "the original and nodegate cannot both be on port {port}: start a trial with `--set listen.port=…`, and \
             give the same here"
        ));
    }
    let own = || format!("https://127.0.0.1:{}", config.own_port);
    let original = comparison.against.clone().unwrap_or_else(own);
    let product = &config.product;
    Ok(ServerPair {
        original: ComparedServer::parse(&original)?,
        ours: ComparedServer::parse(&format!("https://127.0.0.1:{port}"))?,
        credential: credential::read(
            comparison.credential_file.as_deref(),
            comparison.credential_variable.as_deref(),
        )?,
        login: product.compare.login.clone(),
        login_page: product.auth.as_ref().and_then(|auth| auth.login_page.clone()),
        rate: RequestRate::new(comparison.rate),
        rules,
        secrets: SecretMask::new()?,
    })
}

async fn compare(
    pair: &Arc<ServerPair>,
    requests: &LoggedRequests,
    comparison: &ComparisonOptions,
) -> ExitCode {
    let began = Instant::now();
    let until = began + Duration::from_secs(comparison.seconds);
    match timeout_at(until, pair.try_credential()).await {
        Ok(Ok(())) => (),
        Ok(Err(message)) => return cannot_begin(&message),
        Err(_) => {
            return cannot_begin("the servers did not answer the first call within the time of --seconds");
        }
    }
    let mut summary = ComparisonSummary::default();
    let mut calls: JoinSet<(String, CallOutcome)> = JoinSet::new();
    let permits = Arc::new(Semaphore::new(CALLS_AT_ONCE));
    let mut targets = requests.targets.iter();
    let mut next = targets.next();
    while next.is_some() || !calls.is_empty() {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(until) => break,
            Some(ended) = calls.join_next() => {
                if let Ok((target, outcome)) = ended {
                    show(&target, &outcome, &pair.secrets);
                    summary.add(&outcome);
                }
            }
            Ok(permit) = Arc::clone(&permits).acquire_owned(), if next.is_some() => {
                if let Some(target) = next.cloned() {
                    let pair = Arc::clone(pair);
                    calls.spawn(async move {
                        let outcome = pair.check(&target).await;
                        drop(permit);
                        (target, outcome)
                    });
                }
                next = targets.next();
            }
        }
    }
    calls.abort_all();
    say(&summary.text(requests, began.elapsed()));
    if let Some(warning) = summary.warning(requests) {
        write_to_stderr(warning);
    }
    summary.exit_code(requests)
}

fn cannot_begin(message: &str) -> ExitCode {
    write_to_stderr(format_args!("{message}\nnothing was compared"));
    summary::nothing_compared()
}

fn show(target: &str, outcome: &CallOutcome, secrets: &SecretMask) {
    match outcome {
        CallOutcome::Differs(found) => say(&summary::block(target, found, secrets)),
        CallOutcome::Failed(cause) => {
            write_to_stderr(format_args!("GET {}: {cause}", secrets.mask(target)));
        }
        CallOutcome::Equal(_) | CallOutcome::Changes | CallOutcome::Refused | CallOutcome::Unserved => (),
    }
}
