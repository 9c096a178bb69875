//! nodegate: one proxy engine that loads a product profile. Read `proxy/connection.rs` and `proxy/request.rs` first.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod config;
pub mod fs;
pub mod handler;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod net;
pub mod os;
pub mod proxy;
pub mod server;
pub mod state;
pub mod time;
pub mod tls;
pub mod upstream;
pub mod verdict;
