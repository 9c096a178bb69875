//! HTTP/2 (RFC 9113), if it is enabled and the client negotiated it: one connection, and a task for each stream. A
//! request takes the same path as one of HTTP/1.1 (`proxy/request`). Consoles need HTTP/1.1.
//!
//! Streams, heads, buffers, cheap frames (`frame_budget`) and the time of a client are bounded.

mod connection;
mod frame;
mod frame_budget;
mod gathered_writes;
mod graceful_shutdown;
mod head;
mod in_flight;
mod malformed;
mod request_slots;
mod stream;
mod watched_stream;

use std::rc::Rc;

use bytes::Bytes;
use h2::server::Builder;

use self::connection::Http2Connection;
use self::gathered_writes::GatheredWrites;
use self::request_slots::RequestSlots;
use crate::config::settings::LimitSettings;
use crate::proxy::http2::watched_stream::{FloodWatch, WatchedStream};
use crate::proxy::worker_context::Worker;
use crate::state::client_connection::{AdmissionLost, ClientConnection};
use crate::time::client_timeouts::TimedStream;
use crate::tls::ClientStream;

/// Concurrent streams of one connection. Clients rely on 100 before they know the settings (RFC 9113 section 6.5.2).
/// `request_slots` bounds the requests that run.
const MAX_STREAMS: usize = 100;
/// The windows before a login, which is short. RFC 9113 section 6.9.2 allows no smaller window of a connection.
const INITIAL_STREAM_WINDOW: u32 = 16 << 10;
const INITIAL_CONNECTION_WINDOW: u32 = 65_535;
/// Protocol errors on streams before the library closes the connection.
const MAX_LOCAL_RESETS: usize = 100;
/// Streams reset before they were accepted, before the library closes the connection (CVE-2023-44487). A browser that
/// leaves a page may reset all of them at once.
const MAX_PENDING_RESETS: usize = MAX_STREAMS;
/// Bytes above the limits of the settings, so that most oversized heads get a response that says why.
const EXTRA_HEAD_BYTES: usize = 4 << 10;

/// How a connection ended.
pub enum ConnectionEnd {
    Closed,
    /// the client sent no request before the deadline
    NoRequest,
    /// the access list no longer admits the client
    TurnedAway(AdmissionLost),
}

/// Serves requests until the connection ends.
pub async fn serve<S: ClientStream>(
    worker: &Rc<Worker>,
    stream: S,
    client: &Rc<ClientConnection>,
) -> ConnectionEnd {
    client.timeouts.set_multiplexed();
    let is_trusted_proxy = worker.context().state.is_proxy(client.client_ip);
    let watch = FloodWatch::new(is_trusted_proxy);
    let io = GatheredWrites::new(WatchedStream::new(
        TimedStream::new(stream, Bytes::new(), Rc::clone(&client.timeouts)),
        watch.clone(),
    ));
    let builder = builder(&worker.context().state.config.settings.limits, is_trusted_proxy);
    let greeting = builder.handshake::<_, Bytes>(io.clone());
    let connection = tokio::select! {
        biased;
        () = worker.stop.cancelled() => return ConnectionEnd::Closed,
        _ = client.timeouts.expired() => return ConnectionEnd::NoRequest,
        greeted = greeting => greeted,
    };
    match connection {
        Ok(connection) => {
            let slots = RequestSlots::new(is_trusted_proxy);
            Http2Connection::new(worker, client, connection, io, watch, slots).serve(worker).await
        }
        Err(error) => {
            tracing::debug!(peer = %client.client_ip.address(), %error, "HTTP/2 handshake failed");
            ConnectionEnd::Closed
        }
    }
}

fn builder(limits: &LimitSettings, is_trusted_proxy: bool) -> Builder {
    let head = u32::try_from(limits.uri_bytes + limits.header + EXTRA_HEAD_BYTES).unwrap_or(u32::MAX);
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(u32::try_from(MAX_STREAMS).unwrap_or(u32::MAX))
        .initial_window_size(INITIAL_STREAM_WINDOW)
        .initial_connection_window_size(INITIAL_CONNECTION_WINDOW)
        .max_header_list_size(head)
        .max_send_buffer_size(stream::PIECE_BYTES)
        .max_local_error_reset_streams((!is_trusted_proxy).then_some(MAX_LOCAL_RESETS))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS);
    builder
}
