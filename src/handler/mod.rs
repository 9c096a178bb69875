//! The handlers: API calls, and one file or folder for each other destination.

pub mod api;
pub mod coalesce;
pub mod console;
pub mod download;
pub mod health;
pub mod page;
pub mod page_title;
pub mod redirect;
pub mod spice_proxy_rewrite;
pub mod static_file;
pub mod trace_headers;
pub mod tunnel;
pub mod upload;

use http::Response;

use self::console::target::ConnectedConsole;
use crate::http::body::ResponseBody;

/// The answer of a handler, and what its connection becomes after that.
pub struct HandlerAnswer {
    pub response: Response<ResponseBody>,
    /// the console that the connection is relayed to
    pub upgrade: Option<Box<ConnectedConsole>>,
}

impl From<Response<ResponseBody>> for HandlerAnswer {
    fn from(response: Response<ResponseBody>) -> Self {
        Self { response, upgrade: None }
    }
}
