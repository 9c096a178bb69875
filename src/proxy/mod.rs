//! One connection and one request, top to bottom.

pub mod admission;
pub mod api_call;
pub mod buffered_body;
pub mod call_class;
pub mod client_hello;
pub mod close;
pub mod connect_detect;
pub mod connection;
pub mod files;
pub mod framing;
pub mod handlers;
pub mod handshake_turn;
pub mod host_check;
pub mod http2;
pub mod incoming_request;
pub mod login_attempt;
pub mod login_guard;
pub mod malformed;
pub mod recheck;
pub mod request;
pub mod response_headers;
pub mod router;
pub mod scope_check;
pub mod tls_accept;
pub mod worker_context;
