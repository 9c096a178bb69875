//! Step 7: one file per destination.

pub mod api;
pub mod coalesce;
pub mod console;
pub mod download;
pub mod health;
pub mod page;
pub mod page_title;
pub mod redirect;
pub mod spice_proxy_rewrite;
pub mod static_file;
pub mod trace_headers;
pub mod tunnel;
pub mod upload;
