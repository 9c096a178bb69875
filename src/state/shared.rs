//! Everything a connection needs, made once from the configuration and shared by all workers.

use std::sync::Arc;

pub use crate::state::listener_rules::ListenerRules;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use openssl::ssl::SslContext;

pub use crate::state::port_protocol::PortProtocol;

use crate::auth::authenticator::Authenticator;
use crate::auth::credential_memory::CredentialMemory;
use crate::config::Config;
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::product::BackendHeaders;
use crate::config::route_table::RouteTable;
use crate::handler::coalesce::SharedCalls;
use crate::handler::console::target::ConsoleRules;
use crate::handler::health::{ProbePaths, ReadinessCache};
use crate::handler::page::PageSet;
use crate::handler::page_title::PageTitle;
use crate::handler::spice_proxy_rewrite::PublicProxy;
use crate::handler::static_file::types::file_types;
use crate::handler::static_file::{SingleFile, StaticDirectory, StaticFiles};
use crate::handler::tunnel::TunnelRules;
use crate::handler::upload::UploadHandler;
use crate::http::access_log::AccessLog;
use crate::http::error::ResponseError;
use crate::http::logged_body::CommonHeaders;
use crate::http::security_headers::BrowserHeaders;
use crate::http::target::ApiPath;
use crate::limits::Limiters;
use crate::limits::concurrency::ConnectionCapacity;
use crate::os::rlimit;
use crate::proxy::router::RouteRules;
use crate::time::client_timeouts::ClientTimeouts;
use crate::tls::session_tickets::TicketKeys;
use crate::upstream::certificate_pins::CertificatePins;
use crate::upstream::nodes::NodeFile;
use crate::upstream::peer;
use crate::upstream::peer::PeerNode;
use crate::verdict::login::LoginProof;

/// A product, ready to serve.
pub struct AppState {
    pub config: Config,
    pub speaks: PortProtocol,
    /// who gets a tunnel, where there are any
    pub tunnels: Option<Box<TunnelRules>>,
    pub public_proxy: Option<PublicProxy>,
    pub page_title: Option<PageTitle>,
    /// that of `[listen]` first
    pub(crate) listeners: Vec<Arc<ListenerRules>>,
    pub gate: Option<Authenticator>,
    pub routes: RouteRules,
    pub pages: PageSet,
    pub nodes: Arc<NodeFile>,
    pub pins: CertificatePins,
    /// for connections to other nodes
    pub client_context: SslContext,
    pub backend_headers: HeaderNames,
    pub consoles: Option<ConsoleRules>,
    pub uploads: Option<UploadHandler>,
    pub shared_calls: Option<SharedCalls>,
    pub common: CommonHeaders,
    pub log: Arc<AccessLog>,
    pub counts: Arc<Limiters>,
    pub capacity: ConnectionCapacity,
    pub readiness: ReadinessCache,
    pub deadlines: Arc<ClientTimeouts>,
}

/// What lives on when a configuration is replaced by the next.
#[derive(Clone)]
pub struct PersistentState {
    pub log: Arc<AccessLog>,
    pub tickets: Arc<TicketKeys>,
    pub counts: Arc<Limiters>,
    pub credentials: Arc<CredentialMemory>,
}

/// The profile's header names, parsed.
#[derive(Default)]
pub struct HeaderNames {
    pub client: Option<HeaderName>,
    pub looped: Option<HeaderName>,
    pub stream: Option<HeaderName>,
    pub location_prefix: Option<String>,
}

/// What answers, by the profile.
struct Handlers {
    routes: RouteRules,
    pages: PageSet,
    consoles: Option<ConsoleRules>,
    uploads: Option<UploadHandler>,
    public_proxy: Option<PublicProxy>,
    shared_calls: Option<SharedCalls>,
}

impl Handlers {
    /// All of them, or everything that is wrong with any.
    fn new(config: &Config, note: &mut impl FnMut(String)) -> Option<Self> {
        let routes = routes(config).map_err(&mut *note).ok();
        let pages = PageSet::new(config).map_err(&mut *note).ok();
        let consoles = ConsoleRules::new(config).map_err(&mut *note).ok();
        let uploads = config.product.upload.clone();
        let uploads =
            uploads.map(|rules| UploadHandler::new(rules, &config.root, &config.settings.limits)).transpose();
        let uploads = uploads.map_err(&mut *note).ok();
        let public_proxy = PublicProxy::new(config).map_err(&mut *note).ok();
        let shared_calls = SharedCalls::new(config).map_err(&mut *note).ok();
        Some(Self {
            routes: routes?,
            pages: pages?,
            consoles: consoles?,
            uploads: uploads?,
            public_proxy: public_proxy?,
            shared_calls: shared_calls?,
        })
    }
}

impl AppState {
    /// The engine, if it can serve, and everything that is wrong. A problem may be one that it can serve with.
    pub fn build(mut config: Config, lasting: &PersistentState) -> (Result<Self, Config>, Vec<Diagnostic>) {
        let mut problems = std::mem::take(&mut config.problems);
        let fatal = problems.iter().any(Diagnostic::is_error);
        let nodes =
            Arc::new(NodeFile::new(config.product.nodes.as_ref(), &config.root, &config.settings.node_name));
        let mut note = |message| problems.push(Diagnostic::error(ValueOrigin::Profile, "product", message));
        let rules = config.product.gate.clone();
        let gate = rules.map(|rules| Authenticator::new(rules, &config.root, Arc::clone(&nodes))).transpose();
        let shared_with = &config.settings.browser.origins;
        let gate = gate
            .map(|gate| gate.map(|gate| gate.shared_with(shared_with).with_memory(&lasting.credentials)))
            .map_err(&mut note)
            .ok();
        let headers = HeaderNames::parse(&config.product.backend).map_err(&mut note).ok();
        let handlers = Handlers::new(&config, &mut note);
        let common = CommonHeaders::of(&config).map_err(&mut note).ok();
        let listeners = ListenerRules::all(&config).map_err(&mut note).ok();
        let client_context = peer::client_context().map_err(|error| note(error.to_string())).ok();
        let (speaks, more) = PortProtocol::load(&config, &lasting.tickets);
        problems.extend(more);
        let parts = (gate, handlers, headers, common, client_context, speaks, listeners);
        let (
            Some(gate),
            Some(handlers),
            Some(backend_headers),
            Some(common),
            Some(client_context),
            Some(speaks),
            Some(listeners),
        ) = parts
        else {
            return (Err(config), problems);
        };
        if fatal {
            return (Err(config), problems);
        }
        let Handlers { routes, pages, consoles, uploads, public_proxy, shared_calls } = handlers;
        let engine = Self {
            pins: CertificatePins::new(config.product.nodes.as_ref(), &config.root),
            capacity: ConnectionCapacity::new(config.settings.limits.connections, rlimit::limit()),
            tunnels: TunnelRules::new(&config).map(Box::new),
            page_title: config.product.page_title.as_ref().map(PageTitle::new),
            deadlines: Arc::new(ClientTimeouts::new(&config.settings)),
            config,
            speaks,
            listeners,
            gate,
            routes,
            pages,
            nodes,
            client_context,
            backend_headers,
            consoles,
            uploads,
            public_proxy,
            shared_calls,
            common,
            log: Arc::clone(&lasting.log),
            counts: Arc::clone(&lasting.counts),
            readiness: ReadinessCache::default(),
        };
        engine.read_ahead();
        (Ok(engine), problems)
    }

    /// Nobody's first request is to wait for a file that is slow to read.
    fn read_ahead(&self) {
        self.gate.iter().for_each(Authenticator::read_ahead);
        self.nodes.read_ahead();
        self.tunnels.iter().for_each(|rules| rules.read_ahead());
    }

    /// What shows that a call succeeded, if clients can guess at credentials by it.
    pub fn login_proof(&self, method: &Method, path: &ApiPath) -> Option<&LoginProof> {
        self.gate.as_ref()?.login_proof(method, path)
    }

    /// Another node, and what it must show.
    pub fn peer(&self, name: &str) -> Result<PeerNode, ResponseError> {
        let table = self.nodes.current().map_err(|error| ResponseError::nodes(&error))?;
        Ok(PeerNode::find(name, self.config.settings.cluster_port, &table, &self.pins, &self.client_context)?)
    }
}

/// The profile's destinations.
pub fn routes(config: &Config) -> Result<RouteRules, String> {
    let product = &config.product;
    let root = &config.root;
    let directories = product.directory.iter().map(|directory| StaticDirectory {
        url: directory.url.clone(),
        path: root.path(&directory.path),
        links: directory.links.iter().map(|link| root.path(link)).collect(),
    });
    let files =
        product.file.iter().map(|file| SingleFile { url: file.url.clone(), path: root.path(&file.path) });
    Ok(RouteRules {
        table: RouteTable::parse(config.route_table.as_deref().unwrap_or_default())
            .map_err(|message| format!("the route table: {message}"))?,
        pages: product.page.iter().map(|page| page.url.clone()).collect(),
        files: StaticFiles::new(
            directories.collect(),
            files.collect(),
            file_types(),
            config.settings.compression,
        ),
        probes: ProbePaths {
            health: config.settings.monitoring.health.clone(),
            ready: config.settings.monitoring.ready.clone(),
        },
        node_name: config.settings.node_name.clone(),
        has_unprivileged: config.settings.unprivileged.is_some(),
    })
}

impl HeaderNames {
    /// Whether another node has sent the request on already.
    pub fn is_looped(&self, headers: &HeaderMap) -> bool {
        self.looped.as_ref().is_some_and(|name| headers.contains_key(name))
    }

    /// Whether the answer of a daemon names a file to stream.
    pub fn is_stream(&self, headers: &HeaderMap) -> bool {
        self.stream.as_ref().is_some_and(|name| headers.contains_key(name))
    }

    fn parse(names: &BackendHeaders) -> Result<Self, String> {
        let parse = |name: &Option<String>| -> Result<Option<HeaderName>, String> {
            name.as_ref()
                .map(|name| name.parse().map_err(|_| format!("'{name}' is no header name")))
                .transpose()
        };
        Ok(Self {
            client: parse(&names.client_header)?,
            looped: parse(&names.loop_header)?,
            stream: parse(&names.stream_header)?,
            location_prefix: names.location_prefix.clone(),
        })
    }
}

impl CommonHeaders {
    fn of(config: &Config) -> Result<Self, String> {
        let value =
            |text: &str| HeaderValue::try_from(text).map_err(|_| format!("'{text}' is no header value"));
        let product = &config.product;
        let policy = product.page_policy.as_deref();
        let csrf_header = product.gate.as_ref().map(|gate| gate.csrf_header.as_str());
        let browser = BrowserHeaders::new(&config.settings.browser, policy, csrf_header);
        Ok(Self {
            browser: browser.map_err(|_| "page_policy is no header value".to_owned())?,
            server: value(&product.server)?,
            keep_alive: value(&format!("timeout={}", config.settings.timeout.idle.as_secs()))?,
        })
    }
}
