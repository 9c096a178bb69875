//! The class of a call for the scheduler of its daemon: whose turn it takes, and what its cost depends on.

use std::sync::Arc;

use http::Method;
use smallvec::SmallVec;

use crate::auth::authenticator::{AuthenticatedUser, PageLogin};
use crate::config::route_table::RouteMatch;
use crate::http::path_pattern::verb;
use crate::http::target::ApiPath;
use crate::limits::failure_table::ClientKey;
use crate::proxy::incoming_request::IncomingRequest;
use crate::upstream::scheduler::{CallTemplate, ClientGroup, ScheduledCall};

/// The class of an API call. `listed` is its method in the route table.
pub(crate) fn classify(
    request: &IncomingRequest,
    identity: &AuthenticatedUser,
    path: &ApiPath,
    listed: Option<&RouteMatch<'_>>,
) -> ScheduledCall {
    let IncomingRequest { context, client, head, .. } = request;
    let is_read = matches!(head.method, Method::GET | Method::HEAD);
    // An API token that the daemon has not accepted yet may be invented.
    let known = identity.client.as_ref().filter(|known| !known.is_unverified());
    let group = client_group(request, known.map(|known| &*known.user));
    let connection = client.number();
    match listed {
        Some(found) => {
            let names = context.state.config.product.backend.cost_parameters.iter();
            let deciding: SmallVec<[_; 4]> = names.map(|name| found.parameter(name)).collect();
            let template = CallTemplate::new(Arc::clone(found.template));
            ScheduledCall::new(group, template, deciding, connection, !is_read)
        }
        // The path could hold anything, so only its hash is kept.
        None => {
            ScheduledCall::new(group, unlisted(verb(&head.method)), &*path.joined(), connection, !is_read)
        }
    }
}

/// The class of a page that the worker renders.
pub(crate) fn classify_page(
    request: &IncomingRequest,
    login: Option<&PageLogin>,
    path: &str,
) -> ScheduledCall {
    let group = client_group(request, login.map(|login| login.user.as_str()));
    let template = CallTemplate::new(format!("GET {path}").into());
    ScheduledCall::new(group, template, (), request.client.number(), false)
}

/// A user at an address, or everything without a login that comes from an address.
fn client_group(request: &IncomingRequest, user: Option<&str>) -> ClientGroup {
    let address = ClientKey::from_address(request.real);
    match user {
        Some(user) => ClientGroup::new((user, address)),
        None => ClientGroup::without_login(address),
    }
}

/// The template of the calls that the route table does not have.
fn unlisted(method: &str) -> CallTemplate {
    CallTemplate::new(format!("{method} (a path that the route table does not have)").into())
}
