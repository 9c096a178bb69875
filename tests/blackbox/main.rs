//! Black-box tests: the real binary on a free port, real sockets, files in a temporary directory.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    clippy::large_stack_arrays,
    reason = "a test ends by panicking"
)]

mod support;

mod access;
mod advisories;
mod attacks;
mod auth;
mod backend;
mod browser_headers;
mod clients;
mod cluster;
mod commands;
mod compare;
mod comparison;
mod console;
mod custom_profile;
mod daemon_names;
mod demo;
mod doctor;
mod download;
mod faults;
mod files;
mod fourth_product;
mod grammar;
mod help;
mod hosts;
mod house;
mod http;
mod http2;
mod isolation;
mod journal;
mod limits;
mod listeners;
mod listening;
mod log;
mod log_disk;
mod log_json;
mod log_volume;
mod monitoring;
mod page;
mod page_worker;
mod privileges;
mod product_update;
mod real_client;
mod recheck;
mod reload;
mod scheduling;
mod secrets;
mod settings;
mod smuggling;
mod spice;
mod spool_field;
mod status;
mod status_page;
mod stop;
mod supply;
mod takeover;
mod template;
mod tls;
mod tutorial;
mod upload;
mod upload_clients;
mod vectors;
