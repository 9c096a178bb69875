//! One API call: to a daemon of this node, to another node, to the upload, or to a console.

use crate::auth::authenticator::AuthenticatedUser;
use crate::handler::console::ConsoleError;
use crate::handler::upload::UploadRequest;
use crate::handler::{HandlerAnswer, api, console, upload};
use crate::http::error::ResponseError;
use crate::http::request_body::RequestBody;
use crate::http::target::ApiPath;
use crate::proxy::buffered_body::{self, PreparedCall, SenderTrust};
use crate::proxy::call_timeout::{answer_timeout, or_client_left};
use crate::proxy::request::IncomingRequest;
use crate::proxy::router::Route;

/// Sends an API call to its destination.
pub(crate) async fn run_api(
    request: &IncomingRequest<'_>,
    identity: &AuthenticatedUser,
    route: Route,
    path: &ApiPath,
    body: &mut Option<RequestBody>,
) -> Result<HandlerAnswer, ResponseError> {
    let IncomingRequest { context, client, head, address, .. } = *request;
    let (state, handlers) = (&context.state, &context.handlers);
    handlers.uploads.as_ref().map_or(Ok(()), |uploads| uploads.check_query(head))?;
    let sender = SenderTrust::from_identity(identity);
    let clock = (!request.outlives_client).then_some(&*client.clock);
    let call = |PreparedCall { query, body }| api::ApiCall {
        head,
        target: path.upstream_target(query.as_deref().or(head.uri.query())),
        identity,
        client: address,
        body,
        source: download_source(request, &route, path),
        timeout: answer_timeout(context, &route, &head.method, path),
        piece: client.piece,
    };
    match route {
        Route::Node(_) | Route::Master(_) if state.header_names.is_looped(&head.headers) => {
            Err(ResponseError::Loop)
        }
        Route::Node(ref name) | Route::Master(ref name) => {
            let upstream = context.upstreams.peer(state, name, request.real)?;
            let body = buffered_body::read_for_daemon(request, sender, body).await?;
            Ok(or_client_left(clock, handlers.api.forward_call(state, &upstream, call(body))).await?.into())
        }
        Route::Daemon | Route::Unprivileged => {
            let body = buffered_body::read_for_daemon(request, sender, body).await?;
            let upstream = context.local_upstream(&route);
            Ok(or_client_left(clock, handlers.api.forward_call(state, upstream, call(body))).await?.into())
        }
        Route::UnknownNode(node) => {
            let nodes = state.nodes.get().map_err(|error| ResponseError::nodes(&error))?;
            Err(ResponseError::UnknownNode(nodes.unknown(&node)))
        }
        Route::Upload => run_upload(request, identity, path, body).await,
        Route::Websocket => {
            let body = buffered_body::read_for_daemon(request, sender, body).await?;
            let upstream = context.upstreams.unprivileged();
            if !console::handshake::requests_upgrade(&head.headers) {
                return Ok(or_client_left(clock, handlers.api.forward_call(state, upstream, call(body)))
                    .await?
                    .into());
            }
            let consoles = handlers.consoles.as_ref().ok_or(ConsoleError::Unsupported)?;
            or_client_left(clock, Box::pin(console::open(consoles, state, upstream, client, call(body))))
                .await
        }
        Route::NoSuchUri | Route::Page | Route::Static(_) | Route::Probe(_) | Route::Missing(_) => {
            Err(ResponseError::NoSuchUri)
        }
    }
}

async fn run_upload(
    request: &IncomingRequest<'_>,
    identity: &AuthenticatedUser,
    path: &ApiPath,
    body: &mut Option<RequestBody>,
) -> Result<HandlerAnswer, ResponseError> {
    let IncomingRequest { context, client, head, address, .. } = *request;
    let uploads = context.handlers.uploads.as_ref().ok_or(ResponseError::NotServed("uploads are"))?;
    let upload = UploadRequest {
        state: &context.state,
        upstreams: &context.upstreams,
        tasks: &context.tasks,
        head,
        path,
        identity,
        client: address,
        clock: &client.connection_clock,
    };
    Ok(Box::pin(upload::handle_upload(uploads, &upload, body)).await?.into())
}

/// The origin of an answer, which decides whether it may name a file.
fn download_source<'a>(
    request: &IncomingRequest<'a>,
    route: &Route,
    path: &'a ApiPath,
) -> api::DownloadSource<'a> {
    let IncomingRequest { context, head, .. } = *request;
    let (method, routes) = (&head.method, &context.handlers.routes);
    let privileged = matches!(route, Route::Daemon);
    api::DownloadSource {
        method,
        path,
        sends_files: routes.sends_files(method, path),
        privileged,
        // The original proxy answers a page that needs no root with a title of its own.
        stands_in: privileged && context.handlers.api.has_title(path) && !routes.needs_root(method, path),
    }
}
