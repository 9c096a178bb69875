//! The HTTP pieces that all handlers share.

pub mod access_log;
pub mod api_grammar;
pub mod body;
pub mod body_parameters;
pub mod bound;
pub mod compression;
pub mod drain;
pub mod error;
pub mod error_format;
pub mod logged_body;
pub mod path_pattern;
pub mod reason_phrase;
pub mod request_body;
pub mod reserved_field;
pub mod security_headers;
pub mod target;
pub mod validate;
pub mod zstd;
