//! The destination of a request: a closed set, and how one is selected.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::Method;

use crate::config::Config;
use crate::config::product::{DirectoryRules, SingleFile};
use crate::config::route_table::{MethodKind, NodeChoice, RouteTable};
use crate::fs::cached_file::FileError;
use crate::handler::health::{HealthProbe, ProbePaths};
use crate::handler::static_file::versioned::VersionedUrls;
use crate::handler::static_file::{LocatedFile, StaticFiles};
use crate::http::path_pattern::verb;
use crate::http::target::{ApiPath, RequestTarget, query_value};
use crate::metrics::labels::RequestDestination;
use crate::upstream::nodes::NodeFile;

/// The destination of a request.
#[derive(Clone, Debug)]
pub enum Route {
    /// this node's daemon
    Daemon,
    /// this node's daemon for calls that need no root
    Unprivileged,
    /// another node of the cluster
    Node(String),
    /// the master of the cluster, which is another node
    Master(String),
    /// a node that is unknown in the cluster
    UnknownNode(String),
    /// a file for a storage
    Upload,
    /// a console
    Websocket,
    /// a page rendered from a template
    Page,
    /// a static file
    Static(LocatedFile),
    /// a health or readiness probe
    Probe(HealthProbe),
    /// no page or file has this path
    Missing(String),
    /// no destination
    NoSuchUri,
}

/// The destinations of a profile.
pub struct RouteRules {
    pub(crate) table: Arc<RouteTable>,
    pub(super) pages: Vec<String>,
    pub(super) files: StaticFiles,
    pub(super) versioned: VersionedUrls,
    pub(crate) probes: ProbePaths,
    /// the node's own name; `localhost` is here as well
    pub node_name: String,
    /// whether an unprivileged daemon answers calls that need no root
    pub has_unprivileged: bool,
}

impl RouteRules {
    /// The destinations of a configuration.
    pub fn new(config: &Config) -> Self {
        let (product, settings, root) = (&config.product, &config.settings, &config.root);
        let directories = config.directories().map(|directory| DirectoryRules {
            url: directory.url.clone(),
            path: root.path(&directory.path),
            links: directory.links.iter().map(|link| root.path(link)).collect(),
        });
        let file = |file: &SingleFile| SingleFile { url: file.url.clone(), path: root.path(&file.path) };
        let files = config.single_files().map(file).collect();
        Self {
            table: Arc::clone(&config.routes.table),
            pages: product.page.iter().map(|page| page.url.clone()).collect(),
            files: StaticFiles::new(directories.collect(), files, settings.compression),
            versioned: VersionedUrls::new(product.version_parameters.clone()),
            probes: ProbePaths {
                health: settings.monitoring.health.clone(),
                ready: settings.monitoring.ready.clone(),
            },
            node_name: settings.node_name.clone(),
            has_unprivileged: settings.unprivileged.is_some(),
        }
    }

    /// Selects the destination by method, decoded path and query.
    ///
    /// # Errors
    /// The list of nodes cannot be read.
    pub fn resolve(
        &self,
        method: &Method,
        target: &RequestTarget,
        query: &str,
        nodes: &NodeFile,
    ) -> Result<Route, FileError> {
        Ok(match target {
            RequestTarget::NoSuchUri => Route::NoSuchUri,
            RequestTarget::Path(path) if self.pages.iter().any(|page| page == path) => Route::Page,
            RequestTarget::Path(path) => match (self.probes.find(path), self.files.locate(path)) {
                (Some(probe), _) => Route::Probe(probe),
                (None, Some(located)) => Route::Static(located),
                (None, None) => Route::Missing(path.clone()),
            },
            RequestTarget::Api(api) => return self.resolve_api(method, api, query, nodes),
        })
    }

    fn resolve_api(
        &self,
        method: &Method,
        api: &ApiPath,
        query: &str,
        nodes: &NodeFile,
    ) -> Result<Route, FileError> {
        let path = api.joined();
        let Some(found) = self.table.find(verb(method), &path) else { return self.general_rule(api, nodes) };
        match found.method.kind {
            MethodKind::Upload => return Ok(Route::Upload),
            MethodKind::Websocket => return Ok(Route::Websocket),
            MethodKind::Call | MethodKind::Download => (),
        }
        let local = self.local(found.method.protected);
        let named = match found.method.home {
            NodeChoice::Here => None,
            NodeChoice::Node => {
                found.parameter("node").map(Cow::Borrowed).or_else(|| query_value(query, "node"))
            }
            NodeChoice::CheckNode => query_value(query, "check-node"),
            NodeChoice::Master => {
                return Ok(match &nodes.get()?.master {
                    Some(master) if !self.is_here(master) => Route::Master(master.clone()),
                    Some(_) | None => local,
                });
            }
        };
        match named {
            Some(name) if !self.is_here(&name) => there(&name, nodes),
            Some(_) | None => Ok(local),
        }
    }

    /// Routes a path that the table does not have, because the installed packages are newer. A path of another node
    /// goes there. Any other path goes to the daemon with the fewest privileges, which rejects unknown paths.
    fn general_rule(&self, api: &ApiPath, nodes: &NodeFile) -> Result<Route, FileError> {
        let mut segments = api.segments();
        match (segments.next(), segments.next(), segments.next()) {
            (Some("nodes"), Some(name), Some(_)) if !self.is_here(name) => there(name, nodes),
            _ => Ok(self.local(false)),
        }
    }

    fn local(&self, protected: bool) -> Route {
        if self.has_unprivileged && !protected { Route::Unprivileged } else { Route::Daemon }
    }

    /// Compares names like the daemon, case sensitive.
    fn is_here(&self, name: &str) -> bool {
        name == "localhost" || name == self.node_name
    }
}

impl Route {
    /// The label of the destination in the metrics.
    pub fn destination(&self) -> RequestDestination {
        match self {
            Self::Daemon => RequestDestination::Daemon,
            Self::Unprivileged => RequestDestination::Unprivileged,
            Self::Node(_) | Self::Master(_) => RequestDestination::Node,
            Self::Upload => RequestDestination::Upload,
            Self::Websocket => RequestDestination::Console,
            Self::Page => RequestDestination::Page,
            Self::Static(_) => RequestDestination::File,
            Self::Probe(_) => RequestDestination::Probe,
            Self::UnknownNode(_) | Self::Missing(_) | Self::NoSuchUri => RequestDestination::Nowhere,
        }
    }
}

fn there(name: &str, nodes: &NodeFile) -> Result<Route, FileError> {
    let is_known = || Ok::<_, FileError>(nodes.get()?.nodes.contains_key(name));
    let known = is_known()? || (nodes.refresh() && is_known()?);
    Ok(if known { Route::Node(name.to_owned()) } else { Route::UnknownNode(name.to_owned()) })
}

/// The format of `nodegate route`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon => f.write_str("daemon"),
            Self::Unprivileged => f.write_str("unprivileged"),
            Self::Node(name) => write!(f, "node:{name}"),
            Self::Master(name) => write!(f, "master:{name}"),
            Self::Upload => f.write_str("upload"),
            Self::Websocket => f.write_str("websocket"),
            Self::Page | Self::Probe(_) => f.write_str("page"),
            Self::Static(located) => write!(f, "static:{}", located.path().display()),
            Self::UnknownNode(_) => f.write_str("refused:500"),
            Self::Missing(_) => f.write_str("refused:404"),
            Self::NoSuchUri => f.write_str("refused:501"),
        }
    }
}
