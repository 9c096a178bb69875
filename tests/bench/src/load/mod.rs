//! Generators for what wrk cannot do. Each drives one address and gives back plain numbers.

mod client;
pub mod console;
pub mod handshake;
pub mod idle;
pub mod latency;
pub mod process;
pub mod stall;
pub mod start;
pub mod tunnel;
