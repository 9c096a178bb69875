//! A request with the connection and the configuration that it came by.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use http::request::Parts;

use crate::proxy::worker_context::WorkerContext;
use crate::state::client_connection::ClientConnection;
use crate::state::route_scope::RouteScope;

/// A request, and the connection and configuration that it came by.
#[derive(Clone)]
pub struct IncomingRequest {
    pub context: Rc<WorkerContext>,
    pub client: Rc<ClientConnection>,
    /// the part of the product that the listener serves; `None` if it serves all
    pub scope: Option<Arc<RouteScope>>,
    pub head: Parts,
    /// the client's address
    pub real: IpAddr,
    /// the same as a header for daemons
    pub address: HeaderValue,
    /// the call goes on if its client leaves
    pub outlives_client: bool,
}
