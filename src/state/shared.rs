//! The state that handlers use, built once from the configuration and shared by all workers.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use openssl::ssl::SslContext;

pub use crate::state::listener_rules::ListenerRules;
pub use crate::state::port_protocol::PortProtocol;

use crate::auth::authenticator::Authenticator;
use crate::auth::credential_memory::CredentialMemory;
use crate::config::Config;
use crate::config::diagnostic::{Diagnosed, Diagnostic};
use crate::config::product::{AuthRules, BackendRules};
use crate::http::access_log::AccessLog;
use crate::http::api_grammar::ApiGrammar;
use crate::http::error::ResponseError;
use crate::http::logged_body::CommonHeaders;
use crate::http::security_headers::BrowserHeaders;
use crate::http::target::ApiPath;
use crate::limits::Limiters;
use crate::limits::concurrency::ConnectionCapacity;
use crate::metrics::counters::Metrics;
use crate::os::rlimit;
use crate::time::client_timeouts::ClientTimeouts;
use crate::tls::session_tickets::TicketKeys;
use crate::upstream::certificate_pins::CertificatePins;
use crate::upstream::nodes::NodeFile;
use crate::upstream::peer::{self, PeerNode};
use crate::upstream::schedulers::Schedulers;
use crate::verdict::login::LoginProof;

/// The configuration in effect, and everything that is derived from it and that handlers use.
pub struct AppState {
    pub config: Config,
    pub api: ApiGrammar,
    pub port_protocol: PortProtocol,
    /// in the order of the settings; `[listen]` is the first
    pub(crate) listeners: Vec<Arc<ListenerRules>>,
    pub authenticator: Option<Authenticator>,
    pub nodes: Arc<NodeFile>,
    pub pins: CertificatePins,
    /// for connections to other nodes
    pub client_context: SslContext,
    pub header_names: HeaderNames,
    pub common_headers: CommonHeaders,
    pub log: Arc<AccessLog>,
    pub metrics: Arc<Metrics>,
    pub limiters: Arc<Limiters>,
    pub capacity: ConnectionCapacity,
    pub schedulers: Arc<Schedulers>,
    pub client_timeouts: Arc<ClientTimeouts>,
}

/// The state that outlives a reload of the configuration.
#[derive(Clone)]
pub struct PersistentState {
    pub log: Arc<AccessLog>,
    pub metrics: Arc<Metrics>,
    pub tickets: Arc<TicketKeys>,
    pub limiters: Arc<Limiters>,
    pub credentials: Arc<CredentialMemory>,
    pub schedulers: Arc<Schedulers>,
}

/// The profile's header names, parsed.
#[derive(Default)]
pub struct HeaderNames {
    pub(crate) client: Option<HeaderName>,
    pub(crate) looped: Option<HeaderName>,
    pub(crate) stream: Option<HeaderName>,
    pub(crate) location_prefix: Option<String>,
}

impl AppState {
    /// The state if it can be built, otherwise the configuration.
    pub fn build(config: Config, persistent: &PersistentState) -> Diagnosed<Result<Self, Config>> {
        let Diagnosed { value: port_protocol, mut problems } =
            PortProtocol::load(&config, &persistent.tickets);
        let mut note = |message| problems.push(Diagnostic::of_product(message));
        let nodes =
            Arc::new(NodeFile::new(config.product.nodes.as_ref(), &config.root, &config.settings.node_name));
        let authenticator = build_authenticator(&config, &nodes, &persistent.credentials);
        let authenticator = authenticator.map_err(|all| all.into_iter().for_each(&mut note)).ok();
        let header_names = HeaderNames::parse(&config.product.backend).map_err(&mut note).ok();
        let api = ApiGrammar::new(&config.product).map_err(&mut note).ok();
        let common_headers = CommonHeaders::new(&config, api.as_ref()).map_err(&mut note).ok();
        let listeners = ListenerRules::all(&config).map_err(&mut note).ok();
        let client_context = peer::client_context().map_err(|error| note(error.to_string())).ok();
        let (
            Some(authenticator),
            Some(api),
            Some(header_names),
            Some(common_headers),
            Some(client_context),
            Some(port_protocol),
            Some(listeners),
        ) = (authenticator, api, header_names, common_headers, client_context, port_protocol, listeners)
        else {
            return Diagnosed { value: Err(config), problems };
        };
        let state = Self {
            pins: CertificatePins::new(config.product.nodes.as_ref(), &config.root),
            capacity: ConnectionCapacity::new(config.settings.limits.connections, rlimit::limit()),
            client_timeouts: Arc::new(ClientTimeouts::new(&config.settings)),
            config,
            api,
            port_protocol,
            listeners,
            authenticator,
            nodes,
            client_context,
            header_names,
            common_headers,
            log: Arc::clone(&persistent.log),
            metrics: Arc::clone(&persistent.metrics),
            limiters: Arc::clone(&persistent.limiters),
            schedulers: Arc::clone(&persistent.schedulers),
        };
        Diagnosed { value: Ok(state), problems }
    }

    /// Reads key files and the list of nodes, so that the first request does not wait for a slow file system.
    pub fn preload(&self) {
        self.authenticator.iter().for_each(Authenticator::preload);
        self.nodes.preload();
    }

    /// How the daemon's answer to a call shows that a login succeeded. `None` if the call is not a login.
    pub fn login_proof(&self, method: &Method, path: &ApiPath) -> Option<&LoginProof> {
        self.authenticator.as_ref()?.login_proof(method, path)
    }

    /// The address of another node, and the certificate that it has to show.
    ///
    /// # Errors
    /// The list of nodes cannot be read, or the node is unknown, or no certificate of it is known.
    pub fn peer(&self, name: &str) -> Result<PeerNode, ResponseError> {
        let table = self.nodes.get().map_err(|error| ResponseError::nodes(&error))?;
        Ok(PeerNode::find(name, self.config.settings.cluster_port, &table, &self.pins, &self.client_context)?)
    }
}

/// The authenticator of a profile that has one.
fn build_authenticator(
    config: &Config,
    nodes: &Arc<NodeFile>,
    credentials: &Arc<CredentialMemory>,
) -> Result<Option<Authenticator>, Vec<String>> {
    let Some(rules) = config.product.auth.clone() else { return Ok(None) };
    let authenticator = Authenticator::new(rules, &config.root, Arc::clone(nodes))?;
    Ok(Some(authenticator.shared_with(&config.settings.browser.origins).with_memory(credentials)))
}

impl HeaderNames {
    /// Whether another node has forwarded the request.
    pub fn is_looped(&self, headers: &HeaderMap) -> bool {
        self.looped.as_ref().is_some_and(|name| headers.contains_key(name))
    }

    /// Whether a daemon's answer names a file to stream.
    pub fn is_stream(&self, headers: &HeaderMap) -> bool {
        self.stream.as_ref().is_some_and(|name| headers.contains_key(name))
    }

    fn parse(names: &BackendRules) -> Result<Self, String> {
        let parse = |name: &Option<String>| -> Result<Option<HeaderName>, String> {
            name.as_ref()
                .map(|name| name.parse().map_err(|_| format!("'{name}' is not a header name")))
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
    fn new(config: &Config, api: Option<&ApiGrammar>) -> Result<Self, String> {
        let value =
            |text: &str| HeaderValue::try_from(text).map_err(|_| format!("'{text}' is not a header value"));
        let product = &config.product;
        let policy = product.page_policy.as_deref();
        let csrf_header = product.auth.as_ref().map(|auth| auth.csrf.header.as_str());
        let browser = BrowserHeaders::new(
            &config.settings.browser,
            policy,
            csrf_header,
            api.cloned().unwrap_or_default(),
        );
        let scheme = |auth: &AuthRules| value(auth.api_token.as_deref().unwrap_or(&auth.cookie));
        Ok(Self {
            challenge: product.auth.as_ref().map(scheme).transpose()?,
            browser: browser.map_err(|_| "page_policy is not a header value".to_owned())?,
            server: value(&product.server)?,
            keep_alive: value(&format!("timeout={}", config.settings.timeout.idle.as_secs()))?,
        })
    }
}
