//! Uploads to a storage. nodegate reads the client's `multipart/form-data`, writes the file to a spool file, and
//! sends the daemon an ordinary call that names it. The daemon reads no multipart, and trusts any call that names a
//! spool file.

mod error;
pub mod fields;
pub mod form;
mod hand_over;
mod parameters;
mod permission;
pub mod spool;

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

pub use self::error::UploadError;
use self::fields::FormFields;
use self::form::FormReader;
use self::hand_over::hand_over;
use self::spool::{SpoolBounds, SpoolDirectory};
use super::api::{ApiCall, DownloadSource};
use crate::auth::authenticator::AuthenticatedUser;
use crate::config::Config;
use crate::config::product;
use crate::config::route_table::RouteTable;
use crate::http::body::ResponseBody;
use crate::http::drain;
use crate::http::error::ResponseError;
use crate::http::request_body::RequestBody;
use crate::http::reserved_field::ReservedField;
use crate::http::target::ApiPath;
use crate::limits::min_rate::MinRate;
use crate::metrics::counters::UploadGauges;
use crate::state::shared::AppState;
use crate::state::upstreams::Upstreams;
use crate::time::client_timeouts::TimeoutTracker;
use crate::upstream::client::READ_BYTES;
use crate::upstream::scheduler::ScheduledCall;
use crate::verdict::shown::ShownMembers;

/// The daemon's answers to permission checks and uploads are shorter.
const MAX_ANSWER_BYTES: usize = 64 << 10;

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
    pub timeouts: &'a Rc<TimeoutTracker>,
}

impl UploadRequest<'_> {
    /// A call of the same user. The daemon's answer to it names no file.
    fn call<'c>(
        &'c self,
        head: &'c Parts,
        target: String,
        body: Bytes,
        schedule: Box<ScheduledCall>,
    ) -> ApiCall<'c> {
        ApiCall {
            head,
            target,
            identity: self.identity,
            client: self.client,
            body,
            source: DownloadSource::without_files(&head.method, self.path),
            timeout: self.state.config.settings.timeout.answer,
            piece: READ_BYTES,
            schedule: Some(schedule),
        }
    }
}

/// Receives the file and gives it to this node's daemon, even if the path names another node: the daemon copies it there.
pub async fn handle_upload(
    uploads: &Arc<UploadHandler>,
    upload: &UploadRequest<'_>,
    body: &mut Option<RequestBody>,
) -> Result<Response<ResponseBody>, ResponseError> {
    let reader = open_reader(uploads, upload, body.as_mut()).await?;
    match reader.read().await {
        Ok(form) => hand_over(uploads, upload, form).await,
        Err(error) => {
            drain::start(body.take(), false, upload.timeouts);
            Err(error.into())
        }
    }
}

/// Accepts the head of an upload, and claims space for its file.
async fn open_reader<'r>(
    uploads: &'r UploadHandler,
    upload: &UploadRequest<'_>,
    body: Option<&'r mut RequestBody>,
) -> Result<FormReader<'r, RequestBody>, ResponseError> {
    let rules = &uploads.rules;
    let format = upload.path.format();
    if !rules.formats.is_empty() && !rules.formats.iter().any(|known| known == format) {
        return Err(UploadError::Format(format.to_owned()).into());
    }
    let content_type = upload.head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let boundary = form::find_boundary(content_type)?;
    let fields = FormFields::from_query(upload.head.uri.query().unwrap_or_default(), &rules.spool_field)?;
    permission::check_permission(uploads, upload).await?;
    let announced = body.as_ref().and_then(|body| body.size_hint().exact());
    if let Some(limit) = rules.limit.filter(|limit| announced.is_some_and(|length| length > *limit)) {
        return Err(UploadError::TooLarge { limit }.into());
    }
    let rate = upload.state.config.settings.limits.request_body_min_rate;
    Ok(FormReader {
        space: uploads.directory.claim_space(announced)?,
        body: body.ok_or(UploadError::Broken)?,
        boundary,
        file_part: &rules.file,
        fields,
        limit: rules.limit,
        min_rate: MinRate { grace: Duration::from_secs(rules.idle_timeout), rate },
    })
}

async fn read_answer(state: &AppState, body: ResponseBody) -> Option<Bytes> {
    let limit = state.config.settings.timeout.answer;
    let collected = timeout(limit, Limited::new(body, MAX_ANSWER_BYTES).collect()).await.ok()?.ok()?;
    Some(collected.to_bytes())
}
