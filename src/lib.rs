//! nodegate: one proxy engine that loads a product profile. Read `proxy/connection.rs` and `proxy/request.rs` first.
//!
//! The library exists for the program and for its tests. [`cli::main`] is its interface.

#![warn(missing_docs)]
#![allow(
    unreachable_pub,
    reason = "only `cli` and `testing` leave the crate, so `pub` means the whole crate"
)]

mod admin;
mod auth;
pub mod cli;
mod config;
mod fs;
mod handler;
mod http;
mod limits;
mod metrics;
mod net;
mod os;
mod proxy;
mod server;
mod state;
pub mod testing;
mod time;
mod tls;
mod upstream;
mod verdict;
