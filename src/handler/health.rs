//! Whether the process is up, and whether it can serve: for load balancers and monitors, without login. The answers
//! name no file, no address and no user.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use tokio::sync::Mutex;

use crate::config::product::Protocol;
use crate::http::body;
use crate::http::body::ResponseBody;
use crate::metrics::counters;
use crate::state::shared::AppState;
use crate::upstream::client;

/// So long one judgment is good: many monitors cost no more than one.
const LIFE: Duration = Duration::from_secs(1);
/// A monitor waits no longer for a daemon.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HealthProbe {
    /// whether the process answers
    Health,
    /// whether it can serve
    Ready,
}

/// The paths of probes, by the settings; one that is empty there is none.
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

/// The last judgment. Who asks meanwhile waits for the one that is being made.
#[derive(Default)]
pub struct ReadinessCache(Mutex<Option<(Instant, Result<String, String>)>>);

/// Status and text of the answer.
pub async fn judge(engine: &AppState, probe: HealthProbe) -> (StatusCode, String) {
    let judged = match probe {
        HealthProbe::Health => Ok(String::new()),
        HealthProbe::Ready if counters::is_draining() => Err("draining".to_owned()),
        HealthProbe::Ready => engine.readiness.current(engine).await,
    };
    match (judged, probe) {
        (Ok(_), HealthProbe::Health) => (StatusCode::OK, "ok\n".to_owned()),
        (Ok(notes), HealthProbe::Ready) => (StatusCode::OK, format!("ready\n{notes}")),
        (Err(why), HealthProbe::Health | HealthProbe::Ready) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
        }
    }
}

/// The answer to a GET or HEAD.
pub async fn serve(engine: &AppState, probe: HealthProbe, method: &Method) -> Response<ResponseBody> {
    let (status, text) = judge(engine, probe).await;
    let length = HeaderValue::from(text.len());
    let is_head = *method == Method::HEAD;
    let mut response = Response::new(if is_head { body::empty() } else { body::full(Bytes::from(text)) });
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=UTF-8"));
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

impl ReadinessCache {
    async fn current(&self, engine: &AppState) -> Result<String, String> {
        let mut last = self.0.lock().await;
        if let Some((at, judged)) = &*last
            && at.elapsed() < LIFE
        {
            return judged.clone();
        }
        let judged = look(engine).await;
        *last = Some((Instant::now(), judged.clone()));
        judged
    }
}

/// Everything that keeps requests from being answered, a line each; else the pages that fail, a line each. The API
/// is served in spite of those, so they take no node out of a load balancer.
async fn look(engine: &AppState) -> Result<String, String> {
    let mut reasons = Vec::new();
    let unreadable = engine.gate.as_ref().is_some_and(|gate| !gate.file_errors().is_empty())
        || engine.tunnels.as_ref().is_some_and(|rules| rules.file_error().is_some());
    if unreadable {
        reasons.push("a key file cannot be read".to_owned());
    }
    let settings = &engine.config.settings;
    let patience = settings.timeout.connect.min(PATIENCE);
    if engine.config.product.protocol == Protocol::Https
        && let Err(cause) = client::reach(&settings.backend.address, patience).await
    {
        reasons.push(format!("the daemon cannot be connected to: {cause}"));
    }
    let mut notes = String::new();
    for page in failing_pages(engine, patience).await {
        let _ = writeln!(notes, "page {page} cannot be rendered");
    }
    if reasons.is_empty() {
        return Ok(notes);
    }
    let lines: Vec<_> = reasons.iter().map(String::as_str).chain(notes.lines()).collect();
    Err(lines.join("\n"))
}

/// Pages that need a worker, where there is none or it cannot be connected to.
async fn failing_pages(engine: &AppState, patience: Duration) -> Vec<String> {
    let pages = engine.pages.beyond_reader();
    match &engine.config.settings.unprivileged {
        Some(worker) if !pages.is_empty() && client::reach(worker, patience).await.is_ok() => Vec::new(),
        Some(_) | None => pages,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_empty_in_the_settings_is_none() {
        let paths = ProbePaths { health: "/-/health".to_owned(), ready: String::new() };
        let found = ["/-/health", "/-/ready", "/-/health/", "/"].map(|path| paths.find(path));
        assert_eq!(found, [Some(HealthProbe::Health), None, None, None]);
    }
}
