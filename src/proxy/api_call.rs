//! One API call: to a daemon of this node, to another node, to the upload, or to a console.

use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::future::OptionFuture;

use crate::auth::authenticator::AuthenticatedUser;
use crate::config::route_table::{ApiMethod, MethodKind};
use crate::handler::console::ConsoleError;
use crate::handler::upload::UploadRequest;
use crate::handler::{HandlerAnswer, api, console, upload};
use crate::http::error::ResponseError;
use crate::http::path_pattern::verb;
use crate::http::request_body::RequestBody;
use crate::http::target::ApiPath;
use crate::proxy::buffered_body::{self, PreparedCall};
use crate::proxy::call_class;
use crate::proxy::incoming_request::IncomingRequest;
use crate::proxy::router::Route;
use crate::proxy::worker_context::WorkerContext;
use crate::state::shared::AppState;
use crate::time::client_timeouts::TimeoutTracker;
use crate::upstream::client::UpstreamClient;

/// Sends an API call to its destination.
pub(super) async fn run_api(
    request: &IncomingRequest,
    identity: &AuthenticatedUser,
    route: Route,
    path: &ApiPath,
    body: &mut Option<RequestBody>,
) -> Result<HandlerAnswer, ResponseError> {
    let IncomingRequest { context, client, head, address, .. } = request;
    let (state, handlers) = (&context.state, &context.handlers);
    handlers.uploads.as_ref().map_or(Ok(()), |uploads| uploads.check_query(head))?;
    let timeouts = (!request.outlives_client).then_some(&*client.timeouts);
    let is_local = !matches!(route, Route::Node(_) | Route::Master(_));
    let joined = path.joined();
    let listed = handlers.routes.table.find(verb(&head.method), &joined);
    // A method that the table does not have needs no root.
    let method = listed.as_ref().map(|listed| listed.method).unwrap_or_default();
    let call = |PreparedCall { query, body }| api::ApiCall {
        head,
        target: path.upstream_target(query.as_deref().or(head.uri.query())),
        identity,
        client: address,
        body,
        source: download_source(request, &route, method, path),
        timeout: answer_timeout(context, &route, method),
        piece: client.piece,
        schedule: is_local.then(|| Box::new(call_class::classify(request, identity, path, listed.as_ref()))),
    };
    let forward = async |upstream: &UpstreamClient, body: &mut Option<RequestBody>| {
        let body = buffered_body::read_for_daemon(request, identity, body).await?;
        let answer = pin!(handlers.api.forward_call(state, upstream, call(body)));
        Ok(or_client_left(timeouts, answer).await?.into())
    };
    match route {
        Route::Node(_) | Route::Master(_) if state.header_names.is_looped(&head.headers) => {
            Err(ResponseError::Loop)
        }
        Route::Node(ref name) | Route::Master(ref name) => {
            let upstream = context.upstreams.peer(state, name, request.real)?;
            forward(&upstream, body).await
        }
        Route::Daemon | Route::Unprivileged => forward(context.local_upstream(&route), body).await,
        Route::UnknownNode(node) => Err(unknown_node(state, &node)),
        Route::Upload => run_upload(request, identity, path, body).await,
        Route::Websocket => {
            let upstream = context.upstreams.unprivileged();
            if !console::handshake::requests_upgrade(&head.headers) {
                return forward(upstream, body).await;
            }
            let body = buffered_body::read_for_daemon(request, identity, body).await?;
            let consoles = handlers.consoles.as_ref().ok_or(ConsoleError::Unsupported)?;
            let opening = console::open(consoles, state, upstream, client, call(body));
            or_client_left(timeouts, Box::pin(opening).as_mut()).await
        }
        Route::NoSuchUri | Route::Page | Route::Static(_) | Route::Probe(_) | Route::Missing(_) => {
            Err(ResponseError::NoSuchUri)
        }
    }
}

async fn run_upload(
    request: &IncomingRequest,
    identity: &AuthenticatedUser,
    path: &ApiPath,
    body: &mut Option<RequestBody>,
) -> Result<HandlerAnswer, ResponseError> {
    let IncomingRequest { context, client, head, address, .. } = request;
    let uploads = context.handlers.uploads.as_ref().ok_or(ResponseError::NotServed("uploads are"))?;
    let joined = path.joined();
    let listed = context.handlers.routes.table.find(verb(&head.method), &joined);
    let upload = UploadRequest {
        state: &context.state,
        upstreams: &context.upstreams,
        tasks: &context.tasks,
        head,
        path,
        identity,
        client: address,
        schedule: Box::new(call_class::classify(request, identity, path, listed.as_ref())),
        timeouts: &client.connection_timeouts,
    };
    Ok(Box::pin(upload::handle_upload(uploads, &upload, body)).await?.into())
}

fn unknown_node(state: &AppState, name: &str) -> ResponseError {
    match state.nodes.get() {
        Ok(nodes) => ResponseError::UnknownNode(nodes.unknown(name)),
        Err(error) => ResponseError::nodes(&error),
    }
}

/// The origin of an answer, which decides whether it may name a file.
fn download_source<'a>(
    request: &'a IncomingRequest,
    route: &Route,
    listed: ApiMethod,
    path: &'a ApiPath,
) -> api::DownloadSource<'a> {
    let IncomingRequest { context, head, .. } = request;
    let privileged = matches!(route, Route::Daemon);
    api::DownloadSource {
        method: &head.method,
        path,
        sends_files: listed.kind == MethodKind::Download && verb(&head.method) == "GET",
        privileged,
        // The original proxy answers a page that needs no root with a title of its own.
        stands_in: privileged && context.handlers.api.has_title(path) && !listed.protected,
    }
}

/// The timeout of an answer. The original proxies answer calls that need no root themselves, without a limit. Their
/// 30 s apply to calls that they forward to the privileged daemon or to another node.
fn answer_timeout(context: &WorkerContext, route: &Route, listed: ApiMethod) -> Duration {
    let timeouts = context.state.config.settings.timeout;
    let needs_no_root = matches!(route, Route::Unprivileged | Route::Websocket)
        || (matches!(route, Route::Daemon) && !listed.protected);
    if needs_no_root { timeouts.answer_unprivileged } else { timeouts.answer }
}

/// The answer, unless the client disconnects before. Without a tracker the answer comes in any case.
async fn or_client_left<T>(
    timeouts: Option<&TimeoutTracker>,
    answer: Pin<&mut impl Future<Output = Result<T, ResponseError>>>,
) -> Result<T, ResponseError> {
    tokio::select! {
        biased;
        answer = answer => answer,
        Some(()) = OptionFuture::from(timeouts.map(TimeoutTracker::client_left)) => Err(ResponseError::ClientLeft),
    }
}
