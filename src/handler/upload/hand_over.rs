//! The call that hands a spool file over to the daemon.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response};

use super::form::UploadForm;
use super::{UploadHandler, UploadRequest, read_answer};
use crate::handler::api::DownloadSource;
use crate::handler::api::answer::AnswerForwarder;
use crate::http::body::{self, ResponseBody};
use crate::http::bound::BoundExceeded;
use crate::http::error::ResponseError;
use crate::http::target::ApiPath;
use crate::state::shared::AppState;
use crate::state::upstreams::Upstreams;
use crate::upstream::request::UpstreamRequest;
use crate::verdict::AnswerView;
use crate::verdict::upload::is_taken;

/// Sends the daemon the spool file's path, in a task that outlives the connection. Otherwise a client that disconnects
/// now would leave it open whether the daemon or nodegate removes the file.
pub(super) async fn hand_over(
    uploads: &Arc<UploadHandler>,
    upload: &UploadRequest<'_>,
    form: UploadForm,
) -> Result<Response<ResponseBody>, ResponseError> {
    let text = form.fields.encode(&format!("{}{}", uploads.rules.spool, form.file.digits));
    let limit = upload.state.config.settings.limits.body;
    if text.len() > limit {
        return Err(BoundExceeded::Body { limit }.into());
    }
    let mut head = upload.head.clone();
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let target = upload.path.upstream_target(None);
    let call = upload.call(&head, target, Bytes::from(text), upload.schedule.clone());
    let daemon = &upload.upstreams.daemon;
    let mut request = call.into_request(upload.state, daemon, None)?;
    // A client that leaves before this has handed over nothing.
    daemon.reserve_worker(&mut request).await?;
    let task = HandOver {
        uploads: Arc::clone(uploads),
        state: Arc::clone(upload.state),
        upstreams: Rc::clone(upload.upstreams),
        path: upload.path.clone(),
    };
    upload
        .tasks
        .spawn_local(task.send(request, form))
        .await
        .map_err(|_| ResponseError::Internal("the upload was aborted".to_owned()))?
}

/// The data that the task of a call needs.
struct HandOver {
    uploads: Arc<UploadHandler>,
    state: Arc<AppState>,
    upstreams: Rc<Upstreams>,
    path: ApiPath,
}

impl HandOver {
    async fn send(
        self,
        request: UpstreamRequest,
        form: UploadForm,
    ) -> Result<Response<ResponseBody>, ResponseError> {
        let (state, daemon) = (&self.state, &self.upstreams.daemon);
        let answer = daemon.send(request).await?;
        let source = DownloadSource::without_files(&Method::POST, &self.path);
        let (head, body) = AnswerForwarder::new(state, daemon).forward(source, answer).await?.into_parts();
        if !head.status.is_success() {
            return Ok(Response::from_parts(head, body));
        }
        // The answer decides whether the daemon removes the file. If it cannot be read, nodegate does.
        let bytes = read_answer(state, body).await.ok_or_else(|| {
            ResponseError::Internal("the daemon's answer to the upload cannot be read".to_owned())
        })?;
        let view = AnswerView { status: head.status, headers: &head.headers, body: Some(&bytes) };
        if is_taken(&view, &self.uploads.shows) {
            form.file.hand_over();
        }
        Ok(Response::from_parts(head, body::full(bytes)))
    }
}
