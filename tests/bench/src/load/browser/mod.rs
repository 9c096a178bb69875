//! A browser that starts a GUI: its connections, its cache and its order of requests.

mod http1;
mod http2;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::LocalSet;

use super::client;
use crate::first_view::{Content, ITEMS, Item, STEPS};

/// As the product's login window sends it.
const LOGIN: &str = "username=root&password=demo&realm=pam&new-format=1";
const HEADERS: &[(&str, &str)] = &[
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
    ),
    ("accept", "*/*"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "de-DE,de;q=0.9,en;q=0.8"),
    ("sec-fetch-site", "same-origin"),
];

/// The protocol of all its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Over up to six connections.
    Http1,
    /// Over one.
    Http2,
}

/// The part of an answer that a browser keeps.
#[derive(Clone, Debug, Default)]
struct Kept {
    tag: Option<String>,
    modified: Option<String>,
    /// `Cache-Control` lets it use the answer without a question.
    is_fresh: bool,
}

/// A user's browser. Its cache lasts, its connections only for one start.
#[derive(Default)]
pub(crate) struct Browser {
    cache: HashMap<&'static str, Kept>,
}

/// One start of the GUI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub(crate) took: Duration,
    pub(crate) requests: usize,
    /// Of the bodies, as they came.
    pub(crate) bytes: usize,
}

/// A request with its own header fields, for either protocol.
struct Request {
    url: &'static str,
    is_post: bool,
    headers: Vec<(&'static str, String)>,
    body: &'static str,
}

/// The parts of an answer that a browser's cache reads.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    bytes: usize,
}

impl Answer {
    fn header(&self, wanted: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str())
    }
}

/// The connections of one start.
enum Connections {
    Http1(http1::Pool),
    Http2(http2::Connection),
}

impl Browser {
    /// From the first packet to the last byte. The time that scripts run is not part of it.
    pub(crate) fn start(&mut self, address: SocketAddr, protocol: Protocol, ticket: &str) -> Result<Started> {
        let runtime = client::runtime()?;
        let begun = Instant::now();
        let (requests, bytes) = LocalSet::new().block_on(&runtime, async {
            let mut connections = match protocol {
                Protocol::Http1 => Connections::Http1(http1::Pool::new(address)?),
                Protocol::Http2 => Connections::Http2(http2::Connection::open(address).await?),
            };
            let (mut requests, mut bytes) = (0, 0);
            for step in 0..STEPS {
                let items: Vec<_> =
                    ITEMS.iter().filter(|item| item.step == step && !self.is_fresh(item)).collect();
                let wanted: Vec<_> = items.iter().map(|item| self.request(item, address, ticket)).collect();
                requests += wanted.len();
                let answers = match &mut connections {
                    Connections::Http1(pool) => pool.fetch(wanted).await?,
                    Connections::Http2(connection) => connection.fetch(wanted).await?,
                };
                ensure!(answers.len() == items.len(), "an answer is missing");
                for (item, answer) in items.into_iter().zip(answers) {
                    bytes += answer.bytes;
                    self.keep(item, &answer)?;
                }
            }
            anyhow::Ok((requests, bytes))
        })?;
        Ok(Started { took: begun.elapsed(), requests, bytes })
    }

    fn is_fresh(&self, item: &Item) -> bool {
        self.cache.get(item.path).is_some_and(|kept| kept.is_fresh)
    }

    fn request(&self, item: &Item, address: SocketAddr, ticket: &str) -> Request {
        let mut headers: Vec<_> = HEADERS.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        headers.push(("referer", format!("https://{address}/")));
        if let Some(kept) = self.cache.get(item.path) {
            headers.extend(kept.tag.clone().map(|tag| ("if-none-match", tag)));
            headers.extend(kept.modified.clone().map(|time| ("if-modified-since", time)));
        }
        let is_post = item.content == Content::Login;
        if is_post {
            headers.push(("content-type", "application/x-www-form-urlencoded; charset=UTF-8".to_owned()));
        }
        if matches!(item.content, Content::Call(_)) {
            headers.push(("cookie", format!("PVEAuthCookie={}", ticket.replace(':', "%3A"))));
            headers.push(("x-requested-with", "XMLHttpRequest".to_owned()));
        }
        Request { url: item.path, is_post, headers, body: if is_post { LOGIN } else { "" } }
    }

    /// Keeps what the answer allows to keep, and fails for an answer that no GUI could use.
    fn keep(&mut self, item: &Item, answer: &Answer) -> Result<()> {
        let was_asked = self.cache.contains_key(item.path);
        let is_good = answer.status == 200 || (was_asked && answer.status == 304);
        ensure!(is_good, "{} was answered with {}", item.path, answer.status);
        let control = answer.header("cache-control").unwrap_or_default();
        if item.is_call() || control.contains("no-store") {
            return Ok(());
        }
        let kept = self.cache.entry(item.path).or_default();
        let own = |name: &str, before: &Option<String>| {
            answer.header(name).map(str::to_owned).or_else(|| before.clone())
        };
        *kept = Kept {
            tag: own("etag", &kept.tag),
            modified: own("last-modified", &kept.modified),
            is_fresh: max_age(control) > 0,
        };
        Ok(())
    }
}

/// Connections of HTTP/2, and requests at once on each, of a load.
const LOAD: [usize; 2] = [16, 4];

/// One request again and again over HTTP/2, for `duration`.
pub(crate) fn repeat_over_http2(
    address: SocketAddr,
    url: &'static str,
    ticket: &str,
    duration: Duration,
) -> Result<()> {
    let runtime = client::runtime()?;
    let item = Item { step: 0, path: url, content: Content::Call(0) };
    let [connections, streams] = LOAD;
    LocalSet::new().block_on(&runtime, async {
        let until = Instant::now() + duration;
        let mut running = Vec::new();
        for _ in 0..connections {
            let mut connection = http2::Connection::open(address).await?;
            let ticket = ticket.to_owned();
            running.push(tokio::task::spawn_local(async move {
                let browser = Browser::default();
                while Instant::now() < until {
                    let requests = (0..streams).map(|_| browser.request(&item, address, &ticket)).collect();
                    for answer in connection.fetch(requests).await? {
                        ensure!(answer.status == 200, "{url} was answered with {}", answer.status);
                    }
                }
                anyhow::Ok(())
            }));
        }
        for connection in running {
            connection.await??;
        }
        Ok(())
    })
}

/// Seconds for which an answer is fresh. Without them a browser asks again: it may guess, but not after an upgrade.
fn max_age(control: &str) -> u64 {
    let ages = control.split(',').filter_map(|part| part.trim().strip_prefix("max-age=")?.parse().ok());
    ages.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(headers: &[(&str, &str)], status: u16) -> Answer {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Answer { status, headers: headers.collect(), bytes: 1 }
    }

    #[test]
    fn a_fresh_answer_is_not_asked_for_again() {
        let (script, mut browser) = (&ITEMS[1], Browser::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        browser.keep(script, &answer(&[("ETag", "\"a\"")], 200)).unwrap();
        assert!(!browser.is_fresh(script));
        let again = browser.request(script, address, "");
        assert!(again.headers.contains(&("if-none-match", "\"a\"".to_owned())));
        browser.keep(script, &answer(&[("Cache-Control", "public, max-age=60, immutable")], 304)).unwrap();
        assert!(browser.is_fresh(script));
        assert!(browser.keep(script, &answer(&[], 404)).is_err());
        assert!(Browser::default().keep(script, &answer(&[], 304)).is_err(), "nothing was kept");
    }
}
