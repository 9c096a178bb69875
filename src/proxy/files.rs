//! Pages, files and probes.

use http::{Method, Response};

use crate::handler::page::RenderedPage;
use crate::handler::page::worker::PageRequest;
use crate::http::body::ResponseBody;
use crate::http::error::ResponseError;
use crate::http::logged_body::RequestRecord;
use crate::proxy::call_class;
use crate::proxy::incoming_request::IncomingRequest;
use crate::proxy::login_guard::page_login;
use crate::proxy::request::FILE_METHODS;
use crate::proxy::router::Route;

/// Serves a page, a file or a probe. Other methods than GET and HEAD are rejected.
pub async fn run(
    request: &IncomingRequest,
    route: Route,
    path: &str,
    record: &mut RequestRecord,
) -> Result<Response<ResponseBody>, ResponseError> {
    let IncomingRequest { context, head, .. } = request;
    let (state, handlers) = (&context.state, &context.handlers);
    let is_head = head.method == Method::HEAD;
    if matches!(route, Route::Page | Route::Static(_) | Route::Probe(_))
        && !is_head
        && head.method != Method::GET
    {
        return Err(ResponseError::MethodNotAllowed { method: head.method.clone(), allow: FILE_METHODS });
    }
    match route {
        Route::Static(located) => {
            let mut response = handlers.routes.files.serve(&located, is_head, &head.headers).await?;
            handlers.routes.versioned.mark(head.uri.query().unwrap_or_default(), &mut response);
            Ok(response)
        }
        Route::Page => {
            let query = head.uri.query().unwrap_or_default();
            let login = page_login(request, query);
            record.user = login.as_ref().map(|login| login.user.as_str().into());
            let login = login.as_ref();
            let (cause, draft) = match handlers.pages.serve(path, head, login).await {
                Ok(RenderedPage { response, gap: None }) => return Ok(response),
                Ok(RenderedPage { response, gap: Some(gap) }) => (gap, Some(response)),
                Err(cause) => (cause, None),
            };
            let schedule = Some(Box::new(call_class::classify_page(request, login, path)));
            let page = PageRequest { head, path, login, client: &request.address, schedule };
            let asking =
                handlers.pages.fetch_from_worker(state, context.upstreams.pages(), &page, cause, draft);
            Ok(Box::pin(asking).await?)
        }
        Route::Probe(probe) => Ok(handlers.probe(state, probe).await.into_response(&head.method)),
        Route::Missing(path) => Err(ResponseError::NotFound(path)),
        Route::Daemon
        | Route::Unprivileged
        | Route::Node(_)
        | Route::Master(_)
        | Route::UnknownNode(_)
        | Route::Upload
        | Route::Websocket
        | Route::NoSuchUri => Err(ResponseError::NoSuchUri),
    }
}
