//! API calls to a daemon: a new [`request`] for it, and its [`answer`] for the client.

pub(super) mod answer;
pub(super) mod request;

use http::Response;

use self::answer::{AnswerBounds, AnswerForwarder, AnswerRewrites};
pub use self::request::{ApiCall, DownloadSource};
use super::coalesce::{self, SharedCalls};
use super::page_title::PageTitle;
use super::spice_proxy_rewrite::AdvertisedProxy;
use crate::config::Config;
use crate::http::body::ResponseBody;
use crate::http::compression::ContentCoding;
use crate::http::error::ResponseError;
use crate::http::target::ApiPath;
use crate::http::zstd;
use crate::metrics::counters::Metrics;
use crate::state::shared::AppState;
use crate::upstream::client::UpstreamClient;

/// The answer to a login is read whole, because its verdict is in the body.
const MAX_LOGIN_ANSWER_BYTES: usize = 64 << 10;

/// Single flight and the rewrites of answers, from profile and settings.
pub struct ApiHandler {
    shared_calls: Option<SharedCalls>,
    advertised_proxy: Option<AdvertisedProxy>,
    page_title: Option<PageTitle>,
}

impl ApiHandler {
    pub fn new(config: &Config, metrics: &Metrics) -> Result<Self, String> {
        Ok(Self {
            shared_calls: SharedCalls::new(config, metrics)?,
            advertised_proxy: AdvertisedProxy::new(config)?,
            page_title: config.product.page_title.as_ref().map(PageTitle::new),
        })
    }

    /// Whether answers in the format of `path` are pages with a title.
    pub fn has_title(&self, path: &ApiPath) -> bool {
        self.page_title.as_ref().is_some_and(|title| title.is_for(path))
    }

    /// Sends a call to the daemon and forwards its answer.
    pub async fn forward_call(
        &self,
        state: &AppState,
        upstream: &UpstreamClient,
        call: ApiCall<'_>,
    ) -> Result<Response<ResponseBody>, ResponseError> {
        let is_login = state.login_proof(call.source.method, call.source.path).is_some();
        // An answer that nodegate reads or rewrites must not be compressed.
        let coding = request::negotiate_coding(state, upstream, call.head).filter(|_| !is_login);
        let source = call.source;
        let rewrites = self.rewrites(source);
        let by_daemon = coding.filter(|coding| *coding != ContentCoding::Zstd && rewrites.is_none());
        let shared = self.shared_calls.as_ref().filter(|_| upstream.is_local());
        let key = shared.and_then(|shared| Some((shared, shared.key(&call, by_daemon)?)));
        let whole = if key.is_some() { coalesce::MAX_SHARED_BYTES } else { call.piece };
        let whole = if is_login { MAX_LOGIN_ANSWER_BYTES } else { whole };
        let bounds = AnswerBounds { whole, piece: call.piece, is_limit: is_login };
        // The leader's longest time: in the queue, to connect, for the head, and for the body.
        let timeouts = &state.config.settings.timeout;
        let limit = timeouts.queue + timeouts.connect + call.timeout * 2;
        let send = async || {
            let answer = call.send(state, upstream, by_daemon).await?;
            AnswerForwarder { state, upstream, rewrites, bounds }.forward(source, answer).await
        };
        let answer = if let Some((shared, key)) = key {
            Box::pin(shared.send_once(key, limit, send)).await
        } else {
            send().await
        }?;
        Ok(if coding == Some(ContentCoding::Zstd) {
            zstd::zstd(answer, &state.limiters.compressed)
        } else {
            answer
        })
    }

    fn rewrites(&self, source: DownloadSource<'_>) -> AnswerRewrites<'_> {
        AnswerRewrites {
            proxy: self
                .advertised_proxy
                .as_ref()
                .filter(|proxy| proxy.is_named_by(source.method, source.path)),
            title: self.page_title.as_ref().filter(|_| source.stands_in),
        }
    }
}
