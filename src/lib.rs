//! nodegate: one proxy engine that loads a product profile. Read `connection.rs` and `request.rs` first.

pub mod acl;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod connection;
pub mod control;
pub mod deputy;
pub mod engine;
pub mod gate;
pub mod handler;
pub mod head;
pub mod limits;
pub mod listener;
pub mod pattern;
pub mod process;
pub mod request;
pub mod response;
pub mod route;
pub mod route_table;
pub mod server;
pub mod status;
pub mod target;
pub mod tls;
pub mod upstream;
pub mod watched_file;
