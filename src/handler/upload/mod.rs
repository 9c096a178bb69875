//! Uploads to a storage. nodegate reads the client's `multipart/form-data`, writes the file to a spool file, and
//! sends the daemon an ordinary call that names it. The daemon reads no multipart, and trusts any call that names a
//! spool file.

pub mod fields;
pub mod form;
mod parameters;
mod permission;
pub mod spool;

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use self::fields::FormFields;
use self::form::{FormReader, UploadForm};
use self::spool::{SpaceClaim, SpoolBounds, SpoolDirectory};
use super::api::{self, ApiCall, DownloadSource};
use crate::auth::authenticator::AuthenticatedUser;
use crate::config::Config;
use crate::config::product;
use crate::config::route_table::RouteTable;
use crate::http::body;
use crate::http::body::ResponseBody;
use crate::http::drain;
use crate::http::error::{HandlerError, ResponseError};
use crate::http::request_body::RequestBody;
use crate::http::reserved_field::ReservedField;
use crate::http::target::ApiPath;
use crate::limits::LimitExceeded;
use crate::limits::min_rate::MinRate;
use crate::metrics::counters::UploadGauges;
use crate::state::shared::AppState;
use crate::state::upstreams::Upstreams;
use crate::time::client_timeouts::TimeoutTracker;
use crate::upstream::client::READ_BYTES;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::scheduler::ScheduledCall;
use crate::verdict::AnswerView;
use crate::verdict::shown::ShownMembers;
use crate::verdict::upload::is_taken;

/// The daemon's answers to permission checks and uploads are shorter.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The reason why an upload fails.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("an upload must be multipart/form-data with a boundary")]
    NotMultipart,
    #[error("the form {0}")]
    Form(String),
    #[error("an upload is not answered in the format '{0}'")]
    Format(String),
    #[error("parameter '{0}' is set only by the server")]
    Reserved(String),
    #[error("Permission check failed ({path}, {privilege})")]
    Denied { path: String, privilege: String },
    #[error("the daemon did not return the permissions: {reason}")]
    PermissionsUnknown { status: StatusCode, reason: String },
    #[error("upload too large: {limit} bytes are allowed")]
    TooLarge { limit: u64 },
    #[error("not enough space for the upload: {free} bytes are free{}", wanted_text(*.wanted))]
    NoSpace { wanted: Option<u64>, free: u64 },
    #[error("the upload stopped: no byte arrived for {0} s")]
    Stalled(u64),
    #[error("the upload is too slow: fewer than {0} bytes a second arrived")]
    Slow(u64),
    #[error("the upload ended early")]
    Broken,
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    #[error("the upload cannot be stored: {0}")]
    Spool(#[source] io::Error),
}

fn wanted_text(wanted: Option<u64>) -> String {
    wanted.map_or_else(String::new, |wanted| format!(", {wanted} are needed"))
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::NoSpace { wanted: None, free: 0 }
        } else {
            Self::Spool(error)
        }
    }
}

impl UploadError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotMultipart | Self::Form(_) | Self::Reserved(_) | Self::Broken => StatusCode::BAD_REQUEST,
            Self::Format(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Denied { .. } => StatusCode::FORBIDDEN,
            Self::PermissionsUnknown { status, .. } => *status,
            // A client that announced the length gets the error before it sends the body.
            Self::TooLarge { .. } | Self::NoSpace { wanted: Some(_), .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoSpace { wanted: None, .. } => StatusCode::INSUFFICIENT_STORAGE,
            Self::Stalled(_) | Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Limit(exceeded) => exceeded.status(),
            Self::Spool(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<UploadError> for ResponseError {
    fn from(error: UploadError) -> Self {
        if let UploadError::Limit(exceeded) = error {
            return Self::LimitExceeded(exceeded);
        }
        let is_after_upstream = matches!(error, UploadError::PermissionsUnknown { .. });
        HandlerError { is_after_upstream, ..HandlerError::new(error.status(), error) }.into()
    }
}

/// The upload rules of a profile, parsed.
pub struct UploadHandler {
    rules: product::UploadRules,
    reserved: ReservedField,
    /// the members of an answer that accepts a file
    shows: ShownMembers,
    directory: Arc<SpoolDirectory>,
    routes: Arc<RouteTable>,
}

impl UploadHandler {
    /// `None` if the product has no uploads.
    pub fn new(
        config: &Config,
        routes: Arc<RouteTable>,
        gauges: UploadGauges,
    ) -> Result<Option<Self>, String> {
        let Some(rules) = config.product.upload.clone() else { return Ok(None) };
        let limits = &config.settings.limits;
        let named = |path: &Path| Some((path.parent()?.to_owned(), path.file_name()?.to_str()?.to_owned()));
        let (directory, prefix) = named(&config.root.path(&rules.spool))
            .ok_or_else(|| format!("product.upload.spool: '{}' has no directory and prefix", rules.spool))?;
        let uploads = u64::try_from(limits.uploads).unwrap_or(u64::MAX);
        let bounds = SpoolBounds { reserve: rules.reserve, uploads, bytes: limits.upload_bytes_total };
        let directory = Arc::new(SpoolDirectory::new(directory, prefix, bounds, gauges));
        let shows =
            ShownMembers::parse(&rules.shows).map_err(|what| format!("product.upload.shows: {what}"))?;
        let reserved = ReservedField::new(&rules.spool_field);
        Ok(Some(Self { rules, reserved, shows, directory, routes }))
    }

    /// Rejects a call whose query names a spool file.
    pub fn check_query(&self, head: &Parts) -> Result<(), UploadError> {
        let query = head.uri.query().unwrap_or_default();
        self.reject_if(self.reserved.is_in_form(query.as_bytes()))
    }

    /// Rejects a body for a daemon that names a spool file.
    pub fn check_body(&self, head: &Parts, body: &[u8]) -> Result<(), UploadError> {
        let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        self.reject_if(self.reserved.is_in_body(kind, body))
    }

    fn reject_if(&self, names_file: bool) -> Result<(), UploadError> {
        if names_file { Err(UploadError::Reserved(self.reserved.name().to_owned())) } else { Ok(()) }
    }

    /// The reason why every upload would fail now.
    pub fn problem(&self) -> Option<UploadError> {
        self.directory.claim_space(None).err()
    }
}

/// An authenticated upload.
pub struct UploadRequest<'a> {
    pub state: &'a Arc<AppState>,
    pub upstreams: &'a Rc<Upstreams>,
    /// tasks that the worker waits for
    pub tasks: &'a TaskTracker,
    pub head: &'a Parts,
    pub path: &'a ApiPath,
    pub identity: &'a AuthenticatedUser,
    /// the client's address for the daemon
    pub client: &'a HeaderValue,
    /// whose turn the call that hands the file over takes at the daemon
    pub schedule: Box<ScheduledCall>,
    pub clock: &'a Rc<TimeoutTracker>,
}

/// Receives the file and gives it to this node's daemon, even if the path names another node: the daemon copies it
/// there.
pub async fn handle_upload(
    uploads: &Arc<UploadHandler>,
    upload: &UploadRequest<'_>,
    body: &mut Option<RequestBody>,
) -> Result<Response<ResponseBody>, ResponseError> {
    let rules = &uploads.rules;
    let announced = body.as_ref().and_then(|body| body.size_hint().exact());
    let PreparedUpload { boundary, fields, space } = prepare(uploads, upload, announced).await?;
    let rate = upload.state.config.settings.limits.request_body_min_rate;
    let reader = FormReader {
        body: body.as_mut().ok_or(UploadError::Broken)?,
        boundary,
        file_part: &rules.file,
        fields,
        space,
        limit: rules.limit,
        min_rate: MinRate { grace: Duration::from_secs(rules.patience), rate },
    };
    match reader.read().await {
        Ok(form) => hand_over(uploads, upload, form).await,
        Err(error) => {
            drain::start(body.take(), false, upload.clock);
            Err(error.into())
        }
    }
}

/// An upload whose head was accepted.
struct PreparedUpload {
    boundary: String,
    fields: FormFields,
    space: SpaceClaim,
}

async fn prepare(
    uploads: &UploadHandler,
    upload: &UploadRequest<'_>,
    announced: Option<u64>,
) -> Result<PreparedUpload, ResponseError> {
    let rules = &uploads.rules;
    let format = upload.path.format();
    if !rules.formats.is_empty() && !rules.formats.iter().any(|known| known == format) {
        return Err(UploadError::Format(format.to_owned()).into());
    }
    let content_type = upload.head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let boundary = form::find_boundary(content_type)?;
    let fields = FormFields::from_query(upload.head.uri.query().unwrap_or_default(), &rules.spool_field)?;
    permission::check_permission(uploads, upload).await?;
    if let Some(limit) = rules.limit.filter(|limit| announced.is_some_and(|length| length > *limit)) {
        return Err(UploadError::TooLarge { limit }.into());
    }
    let space = uploads.directory.claim_space(announced)?;
    Ok(PreparedUpload { boundary, fields, space })
}

/// Sends the daemon the spool file's path, in a task that outlives the connection. Otherwise a client that disconnects
/// now would leave it open whether the daemon or nodegate removes the file.
async fn hand_over(
    uploads: &Arc<UploadHandler>,
    upload: &UploadRequest<'_>,
    form: UploadForm,
) -> Result<Response<ResponseBody>, ResponseError> {
    let state = upload.state;
    let text = form.fields.encode(&format!("{}{}", uploads.rules.spool, form.file.digits));
    let limit = state.config.settings.limits.body;
    if text.len() > limit {
        return Err(ResponseError::BodyTooLarge { limit });
    }
    let mut head = upload.head.clone();
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let call = ApiCall {
        head: &head,
        target: upload.path.upstream_target(None),
        identity: upload.identity,
        client: upload.client,
        body: Bytes::from(text),
        source: DownloadSource::without_files(&head.method, upload.path),
        timeout: state.config.settings.timeout.answer,
        piece: READ_BYTES,
        schedule: Some(upload.schedule.clone()),
    };
    let daemon = &upload.upstreams.daemon;
    let mut request = api::build_request(state, daemon, call, None)?;
    // A client that leaves before this has handed over nothing.
    daemon.reserve_worker(&mut request).await?;
    let hand_over = HandOver {
        uploads: Arc::clone(uploads),
        state: Arc::clone(state),
        upstreams: Rc::clone(upload.upstreams),
        path: upload.path.clone(),
    };
    upload
        .tasks
        .spawn_local(hand_over.send(request, form))
        .await
        .map_err(|_| ResponseError::Internal("the upload was aborted".to_owned()))?
}

/// The call that hands a file over. It outlives its connection.
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
        let (head, body) = api::forward_answer(state, daemon, source, answer).await?.into_parts();
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

async fn read_answer(state: &AppState, body: ResponseBody) -> Option<Bytes> {
    let limit = state.config.settings.timeout.answer;
    let collected = timeout(limit, Limited::new(body, MAX_ANSWER_BYTES).collect()).await.ok()?.ok()?;
    Some(collected.to_bytes())
}
