//! Where strangers come to: nodegate in a network namespace, with a listener for everything and one for the public.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use nodegate_standin::{Config, Daemon, Product, now};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::stranger::{Job, Protocol, request};
use crate::listening::namespace::Namespace;
use crate::support::{Nodegate, Reply, Session, Site, all_at_once};

const PUBLIC: &str =
    "[[listener]]\nname = \"public\"\naddress = \"192.0.2.1\"\nport = 0\nroute_scope = \"quarantine\"\n";
const MAIL: &str = "user@example.com";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

pub struct Place {
    pub site: Site,
    pub gate: Nodegate,
    /// the last number of the address of the next client
    next: AtomicU8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listener {
    Full,
    Quarantine,
}

/// A stranger at one of the listeners, in one of the protocols.
pub struct Way<'a> {
    place: &'a Place,
    pub protocol: Protocol,
    pub listener: Listener,
    pub client: String,
}

impl Place {
    /// Runs the test there. `None` if the test is skipped.
    ///
    /// A wrong password takes the daemon three seconds, as it does the originals.
    pub fn visit<T: Send>(
        product: Product,
        settings: &str,
        sets: &[&str],
        test: impl FnOnce(&Self) -> T + Send,
    ) -> Option<T> {
        let space = Namespace::new()?;
        // On `lo`, every address of the network is the machine's own.
        space.ip(&["addr", "add", "192.0.2.1/24", "dev", "lo"]);
        Some(space.inside(|| test(&Self::new(product, settings, sets))))
    }

    fn new(product: Product, settings: &str, sets: &[&str]) -> Self {
        let mut site = Site::of(product);
        site.daemon = Daemon::start(Config {
            keys: Arc::clone(&site.keys),
            root: site.root().to_owned(),
            refusal_delay: Duration::from_secs(3),
            ..Config::new(product)
        });
        let public = if product == Product::Pmg { PUBLIC } else { "" };
        site.write(&format!("/etc/nodegate/{}.toml", site.profile()), format!("{public}{settings}"));
        for page in ["pmg-gui/pmg-index.html.tt", "pve-manager/index.html.tpl"] {
            site.write(&format!("/usr/share/javascript/{page}"), "user [% username %]");
            site.write(&format!("/usr/share/{page}"), "user [% username %]");
        }
        let always = ["listen.address=192.0.2.1", "http2=true"];
        let gate = Nodegate::start(&site, &[&always, sets].concat());
        Self { site, gate, next: AtomicU8::new(10) }
    }

    /// A stranger from an unused address.
    pub fn way(&self, protocol: Protocol, listener: Listener) -> Way<'_> {
        Way { place: self, protocol, listener, client: self.next_client() }
    }

    /// An unused address.
    pub fn next_client(&self) -> String {
        format!("192.0.2.{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Requests of a client that the daemon got.
    pub fn verified(&self, client: &str) -> usize {
        let requests = self.site.daemon.requests();
        requests.iter().filter(|request| request.header("PVEClientIP") == Some(client)).count()
    }

    /// The attack in both protocols on all listeners, at the same time, each from a separate address.
    pub fn everywhere(&self, attack: impl Fn(&Way) + Sync) {
        all_at_once(&self.ways(), |way| attack(way));
    }

    /// The attack in each of the ways on a separate nodegate, where the measurement is of the whole process.
    pub fn visit_each_way<T: Send>(
        settings: &str,
        sets: &[&str],
        attack: impl Fn(&Self, &Way) -> T + Sync,
    ) -> Vec<T> {
        let ways = [Listener::Full, Listener::Quarantine]
            .into_iter()
            .flat_map(|listener| [Protocol::Http1, Protocol::Http2].map(|protocol| (protocol, listener)));
        let visit = |(protocol, listener)| {
            Self::visit(Product::Pmg, settings, sets, |place| attack(place, &place.way(protocol, listener)))
        };
        ways.filter_map(visit).collect()
    }

    fn ways(&self) -> Vec<Way<'_>> {
        let listeners: &[Listener] = match self.site.product {
            Product::Pve => &[Listener::Full],
            Product::Pmg => &[Listener::Full, Listener::Quarantine],
        };
        let protocols = [Protocol::Http1, Protocol::Http2];
        let ways =
            listeners.iter().flat_map(|listener| protocols.map(|protocol| self.way(protocol, *listener)));
        ways.collect()
    }
}

impl Way<'_> {
    pub fn address(&self) -> SocketAddr {
        match self.listener {
            Listener::Full => self.place.gate.local(),
            Listener::Quarantine => self.place.gate.listener("public"),
        }
    }

    pub fn job(&self, requests: Vec<Value>) -> Job {
        Job {
            protocol: self.protocol,
            to: self.address(),
            from: self.client.clone(),
            pause: 0.0,
            until_closed: false,
            requests,
        }
    }

    /// A login of a user of this listener, with a wrong password of that number.
    pub fn guess(&self, format: &str, number: usize) -> Value {
        self.login(format, &format!("guess{number}"))
    }

    /// The same with the right password.
    pub fn right(&self, format: &str) -> Value {
        match self.listener {
            Listener::Full => self.login(format, "demo"),
            Listener::Quarantine => self.login(format, &self.place.site.keys.ticket("PMGQUAR", MAIL, now())),
        }
    }

    fn login(&self, format: &str, password: &str) -> Value {
        let user = match self.listener {
            Listener::Full => "root@pam".to_owned(),
            Listener::Quarantine => format!("{MAIL}@quarantine"),
        };
        let body = format!("username={}&password={}", escape(&user), escape(password));
        request("POST", &format!("/api2/{format}/access/ticket"), &[FORM], &body)
    }

    /// Requests of this client that the daemon got.
    pub fn verified(&self) -> usize {
        self.place.verified(&self.client)
    }

    /// An honest request from the stranger's address, at the stranger's listener.
    pub fn honest(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        let mut session = Session::tls_behind(b"", &self.client, self.address()).unwrap();
        session.request(method, path, headers, body.as_bytes())
    }

    /// An honest login from the stranger's address.
    pub fn honest_login(&self) -> Reply {
        let request = self.right("json");
        let kind = format!("{}: {}\r\n", FORM.0, FORM.1);
        self.honest("POST", request["path"].as_str().unwrap(), &kind, request["body"].as_str().unwrap())
    }

    pub fn name(&self) -> String {
        format!("{:?} on the listener {:?} from {}", self.protocol, self.listener, self.client)
    }
}

pub fn escape(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
