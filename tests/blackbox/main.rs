//! Black-box tests: the real binary on a free port, real sockets, files in a directory of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "a test ends by panicking"
)]

mod support;

mod console;
mod gate;
