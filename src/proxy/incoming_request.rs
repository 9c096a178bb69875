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
#[derive(Clone, Copy)]
pub struct IncomingRequest<'a> {
    pub context: &'a Rc<WorkerContext>,
    pub client: &'a Rc<ClientConnection>,
    /// the part of the product that the listener serves; `None` if it serves all
    pub scope: Option<&'a Arc<RouteScope>>,
    pub head: &'a Parts,
    /// the client's address
    pub real: IpAddr,
    /// the same as a header for daemons
    pub address: &'a HeaderValue,
    /// the call goes on if its client leaves
    pub outlives_client: bool,
}

impl IncomingRequest<'_> {
    /// The same request for a task that outlives the connection.
    pub fn detach(&self) -> DetachedRequest {
        DetachedRequest {
            context: Rc::clone(self.context),
            client: Rc::clone(self.client),
            scope: self.scope.cloned(),
            head: self.head.clone(),
            real: self.real,
            address: self.address.clone(),
        }
    }
}

/// A request that outlives its connection.
pub struct DetachedRequest {
    pub context: Rc<WorkerContext>,
    pub client: Rc<ClientConnection>,
    scope: Option<Arc<RouteScope>>,
    pub head: Parts,
    real: IpAddr,
    address: HeaderValue,
}

impl DetachedRequest {
    pub fn as_request(&self) -> IncomingRequest<'_> {
        IncomingRequest {
            context: &self.context,
            client: &self.client,
            scope: self.scope.as_ref(),
            head: &self.head,
            real: self.real,
            address: &self.address,
            outlives_client: true,
        }
    }
}
