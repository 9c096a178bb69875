//! Step 7: one file per destination.

pub mod api;
pub mod download;
pub mod page;
pub mod page_title;
pub mod probe;
pub mod public_proxy;
pub mod redirect;
pub mod shared;
pub mod static_file;
pub mod trace;
pub mod tunnel;
pub mod upload;
pub mod websocket;
