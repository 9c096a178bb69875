//! Step 6: where a request goes. A closed set of destinations, and how one is chosen.

use std::fmt;

use http::Method;

use crate::handler::static_file::{Located, StaticFiles};
use crate::pattern::Pattern;
use crate::target::{ApiPath, Target};
use crate::upstream::nodes::NodeFile;
use crate::watched_file::FileError;

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Route {
    /// this node's daemon
    Daemon,
    /// another node of the cluster
    Node(String),
    /// a node that the cluster does not know
    UnknownNode(String),
    /// a file for a storage
    Upload,
    /// a console
    Websocket,
    /// a page rendered from a template
    Page,
    Static(Located),
    /// nothing has this path
    Missing(String),
    NoSuchUri,
}

/// What a profile says about destinations.
pub struct Routes {
    pub uploads: Vec<Pattern>,
    pub pages: Vec<String>,
    pub files: StaticFiles,
    /// the own name; `localhost` is here as well
    pub node_name: String,
}

impl Routes {
    /// Chooses by method and decoded path alone.
    pub fn resolve(&self, method: &Method, target: &Target, nodes: &NodeFile) -> Result<Route, FileError> {
        Ok(match target {
            Target::NoSuchUri => Route::NoSuchUri,
            Target::Path(path) if self.pages.iter().any(|page| page == path) => Route::Page,
            Target::Path(path) => match self.files.locate(path) {
                Some(located) => Route::Static(located),
                None => Route::Missing(path.clone()),
            },
            Target::Api(api) => return self.resolve_api(method, api, nodes),
        })
    }

    fn resolve_api(&self, method: &Method, api: &ApiPath, nodes: &NodeFile) -> Result<Route, FileError> {
        let segments = api.segments();
        if self.uploads.iter().any(|pattern| pattern.matches(method.as_str(), segments)) {
            return Ok(Route::Upload);
        }
        if *method == Method::GET && segments.last().is_some_and(|last| last.ends_with("websocket")) {
            return Ok(Route::Websocket);
        }
        Ok(match segments {
            [word, name, _, ..] if word == "nodes" && !self.is_here(name) => {
                match nodes.current()?.find(name) {
                    Some((known, _)) => Route::Node(known.to_owned()),
                    None => Route::UnknownNode(name.clone()),
                }
            }
            _ => Route::Daemon,
        })
    }

    fn is_here(&self, name: &str) -> bool {
        name == "localhost" || name.eq_ignore_ascii_case(&self.node_name)
    }
}

/// As `nodegate route` prints it.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon => f.write_str("daemon"),
            Self::Node(name) => write!(f, "node:{name}"),
            Self::Upload => f.write_str("upload"),
            Self::Websocket => f.write_str("websocket"),
            Self::Page => f.write_str("page"),
            Self::Static(located) => write!(f, "static:{}", located.path().display()),
            Self::UnknownNode(_) => f.write_str("refused:500"),
            Self::Missing(_) => f.write_str("refused:404"),
            Self::NoSuchUri => f.write_str("refused:501"),
        }
    }
}
