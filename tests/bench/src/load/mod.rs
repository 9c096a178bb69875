//! Generators for what wrk cannot do. Each drives one address and gives back plain numbers.

pub(crate) mod background;
pub(crate) mod browser;
mod client;
pub(crate) mod console;
pub(crate) mod handshake;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod process;
pub(crate) mod stall;
pub(crate) mod start;
pub(crate) mod steady;
pub(crate) mod stranger;
pub(crate) mod tunnel;
pub(crate) mod upload;
