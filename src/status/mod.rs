//! What the process knows of itself while it serves: counts, latencies, and the consoles and tunnels that are open.

pub mod bridges;
pub mod counters;
pub mod latencies;
