//! Health and readiness probes for load balancers and monitors. They need no login, so their answers name no file, no
//! address and no user.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use tokio::sync::Mutex;

use crate::config::product::Protocol;
use crate::handler::page::PageSet;
use crate::handler::tunnel::TunnelRules;
use crate::http::body::{self, ResponseBody};
use crate::state::shared::AppState;
use crate::upstream::loopback;

/// A result is reused for this time, so many monitors cost as much as one.
const RESULT_TTL: Duration = Duration::from_secs(1);
/// Longest time to connect to a daemon for a probe.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The question of a probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HealthProbe {
    /// the process answers
    Health,
    /// the process can serve requests
    Ready,
}

/// The paths of the probes in the settings. An empty path disables its probe.
#[derive(Clone, Debug)]
pub struct ProbePaths {
    pub health: String,
    pub ready: String,
}

impl ProbePaths {
    pub fn find(&self, path: &str) -> Option<HealthProbe> {
        if path == self.health {
            Some(HealthProbe::Health)
        } else if path == self.ready {
            Some(HealthProbe::Ready)
        } else {
            None
        }
    }
}

/// The last result. Concurrent probes wait for one check.
#[derive(Default)]
pub struct ReadinessCache(Mutex<Option<(Instant, Result<String, String>)>>);

/// The state that a readiness check reads.
pub struct ReadinessInputs<'a> {
    pub state: &'a AppState,
    pub tunnels: Option<&'a TunnelRules>,
    pub pages: &'a PageSet,
}

/// The answer to a probe.
pub struct ProbeAnswer {
    pub status: StatusCode,
    pub text: String,
}

pub async fn run_probe(
    cache: &ReadinessCache,
    inputs: &ReadinessInputs<'_>,
    probe: HealthProbe,
) -> ProbeAnswer {
    let ready = match probe {
        HealthProbe::Health => return ProbeAnswer { status: StatusCode::OK, text: "ok\n".to_owned() },
        HealthProbe::Ready if inputs.state.metrics.is_draining() => Err("draining".to_owned()),
        HealthProbe::Ready => cache.get_or_check(inputs).await,
    };
    match ready {
        Ok(notes) => ProbeAnswer { status: StatusCode::OK, text: format!("ready\n{notes}") },
        Err(reason) => ProbeAnswer { status: StatusCode::SERVICE_UNAVAILABLE, text: format!("{reason}\n") },
    }
}

impl ProbeAnswer {
    /// The response to a GET or HEAD.
    pub fn into_response(self, method: &Method) -> Response<ResponseBody> {
        let length = HeaderValue::from(self.text.len());
        let body = if *method == Method::HEAD { body::empty() } else { body::full(self.text) };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=UTF-8"));
        response.headers_mut().insert(CONTENT_LENGTH, length);
        response
    }
}

impl ReadinessCache {
    async fn get_or_check(&self, inputs: &ReadinessInputs<'_>) -> Result<String, String> {
        let mut last = self.0.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < RESULT_TTL
        {
            return result.clone();
        }
        let result = check_readiness(inputs).await;
        *last = Some((Instant::now(), result.clone()));
        result
    }
}

/// `Ok` has a line for each page that fails. Failing pages take no node out of a load balancer, because its API works.
///
/// # Errors
/// A line for each reason that keeps nodegate from answering requests, then the lines of failing pages.
async fn check_readiness(inputs: &ReadinessInputs<'_>) -> Result<String, String> {
    let state = inputs.state;
    let mut reasons = Vec::new();
    let unreadable =
        state.authenticator.as_ref().is_some_and(|authenticator| !authenticator.file_errors().is_empty())
            || inputs.tunnels.is_some_and(|rules| rules.file_error().is_some());
    if unreadable {
        reasons.push("a key file cannot be read".to_owned());
    }
    let settings = &state.config.settings;
    let limit = settings.timeout.connect.min(CONNECT_TIMEOUT);
    if state.config.product.protocol == Protocol::Https
        && let Err(cause) = loopback::check_reachable(&settings.backend.address, limit).await
    {
        reasons.push(format!("the daemon cannot be connected to: {cause}"));
    }
    let mut notes = String::new();
    for page in failing_pages(inputs, limit).await {
        let _ = writeln!(notes, "page {page} cannot be rendered");
    }
    if reasons.is_empty() {
        return Ok(notes);
    }
    let lines: Vec<_> = reasons.iter().map(String::as_str).chain(notes.lines()).collect();
    Err(lines.join("\n"))
}

/// Pages that need a worker, if no worker is set or nodegate cannot connect to it.
async fn failing_pages(inputs: &ReadinessInputs<'_>, limit: Duration) -> Vec<String> {
    let pages = inputs.pages.pages_for_worker();
    match &inputs.state.config.settings.unprivileged {
        Some(worker) if !pages.is_empty() && loopback::check_reachable(worker, limit).await.is_ok() => {
            Vec::new()
        }
        Some(_) | None => pages,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_path_disables_its_probe() {
        let paths = ProbePaths { health: "/-/health".to_owned(), ready: String::new() };
        let found = ["/-/health", "/-/ready", "/-/health/", "/"].map(|path| paths.find(path));
        assert_eq!(found, [Some(HealthProbe::Health), None, None, None]);
    }
}
