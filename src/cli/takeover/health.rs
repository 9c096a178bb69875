//! The requests that show whether the server on the product's port serves: those that the original answered.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::cli::compare::client::ComparedServer;
use crate::cli::compare::content::ComparedBody;
use crate::cli::pages;
use crate::config::grammar::ErrorFormat;
use crate::config::product::{Product, Protocol};
use crate::upstream::client::io_message;

/// Timeout of one request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The targets of a health check.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct HealthTargets {
    pub(super) pages: Vec<String>,
    /// API calls that need no login, which the daemon answers
    pub(super) calls: Vec<String>,
    /// a port for tunnels only: any answer is good
    pub(super) any_answer: bool,
}

impl HealthTargets {
    /// Those that this server answers.
    pub(super) async fn answered_by(server: &ComparedServer, product: &Product) -> Self {
        let mut answered = Self::default();
        if product.protocol == Protocol::Connect {
            answered.any_answer = answer_of_port(server).await.is_ok();
            return answered;
        }
        for page in pages::targets(product) {
            if answer_of_page(server, &page).await.is_ok() {
                answered.pages.push(page);
            }
        }
        for call in open_calls(product) {
            if answer_of_call(server, &call).await.is_ok() {
                answered.calls.push(call);
            }
        }
        answered
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.calls.is_empty() && !self.any_answer
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &String> {
        self.pages.iter().chain(&self.calls)
    }

    /// The first target that this server does not answer, with the reason.
    pub(super) async fn check(&self, server: &ComparedServer) -> Result<(), String> {
        if self.any_answer {
            answer_of_port(server).await?;
        }
        for call in &self.calls {
            answer_of_call(server, call).await.map_err(|reason| format!("{call}: {reason}"))?;
        }
        for page in &self.pages {
            answer_of_page(server, page).await.map_err(|reason| format!("{page}: {reason}"))?;
        }
        Ok(())
    }

    /// For a message.
    pub(super) fn text(&self) -> String {
        match (self.any_answer, self.pages.len(), self.calls.len()) {
            (true, ..) => "the port".to_owned(),
            (false, pages, calls) => format!("{pages} pages and {calls} calls without login"),
        }
    }
}

/// The server of the product on this machine.
pub(super) fn server(product: &Product, address: IpAddr, port: u16) -> Result<ComparedServer, String> {
    match product.protocol {
        Protocol::Https => ComparedServer::here(address, port),
        Protocol::Connect => {
            ComparedServer::parse(&format!("http://{}", std::net::SocketAddr::new(address, port)))
        }
    }
}

/// GETs without parameters that need no login and change nothing.
fn open_calls(product: &Product) -> Vec<String> {
    let (Some(api), Some(auth)) = (&product.api, &product.auth) else { return Vec::new() };
    let format = match api.formats.iter().find(|(_, form)| **form == ErrorFormat::Json) {
        Some((name, _)) => format!("/{name}"),
        None => String::new(),
    };
    let is_safe = |call: &&String| !call.contains('{') && !product.side_effects.contains(call);
    let paths = auth.open.iter().filter(is_safe).filter_map(|call| call.strip_prefix("GET "));
    paths.map(|path| format!("{}{format}{path}", api.prefix)).collect()
}

async fn answer_of_port(server: &ComparedServer) -> Result<(), String> {
    let authority = server.authority();
    let asking = timeout(ANSWER_TIMEOUT, server.get("/", &authority, None));
    let answer = asking.await.map_err(|_| "no answer in 10 s".to_owned())?;
    answer.map(drop).map_err(|error| io_message(&error))
}

async fn answer_of_page(server: &ComparedServer, target: &str) -> Result<(), String> {
    let asking = timeout(ANSWER_TIMEOUT, pages::ask(server, target));
    let answer = asking.await.map_err(|_| "no answer in 10 s".to_owned())?;
    answer.map_err(|(reason, _)| reason)
}

async fn answer_of_call(server: &ComparedServer, target: &str) -> Result<(), String> {
    let authority = server.authority();
    let asking = timeout(ANSWER_TIMEOUT, server.get(target, &authority, None));
    let answer = asking.await.map_err(|_| "no answer in 10 s".to_owned())?;
    let answer = answer.map_err(|error| io_message(&error))?;
    let is_json = matches!(answer.content, ComparedBody::Json(_));
    if answer.status == 200 && is_json { Ok(()) } else { Err(answer.status_text()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigSources};

    #[test]
    fn open_calls_are_those_of_the_profile() {
        let calls = |profile| open_calls(&Config::load(profile, &ConfigSources::default()).unwrap().product);
        assert_eq!(calls("pve"), ["/api2/json/access/domains", "/api2/json/access/ticket"]);
        assert_eq!(calls("pmg"), ["/api2/json/access/auth-realm", "/api2/json/access/ticket"]);
        assert!(calls("spice").is_empty());
    }
}
