//! Generators for what wrk cannot do. Each drives one address and gives back plain numbers.

pub mod console;
pub mod handshake;
pub mod idle;
pub mod process;
pub mod stall;
pub mod tunnel;
