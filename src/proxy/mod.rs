//! One connection and one request, top to bottom.

pub(crate) mod admission;
pub(crate) mod api_call;
pub(crate) mod buffered_body;
pub(crate) mod call_class;
pub(crate) mod client_hello;
pub(crate) mod close;
pub(crate) mod connect_detect;
pub mod connection;
pub(crate) mod files;
pub(crate) mod framing;
pub mod handlers;
pub(crate) mod host_check;
pub mod http2;
pub(crate) mod login_attempt;
pub(crate) mod login_guard;
pub(crate) mod malformed;
pub mod recheck;
pub mod request;
pub(crate) mod response_headers;
pub mod router;
pub(crate) mod scope_check;
pub(crate) mod tls_accept;
pub mod worker_context;
