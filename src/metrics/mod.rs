//! What the process knows of itself while it serves: counts, latencies, the consoles and tunnels that are open, and the
//! report that is made of them.

pub mod counters;
mod histogram;
pub mod labels;
pub mod latency_window;
pub mod prometheus;
pub mod report;
pub mod sessions;
pub mod upstreams;
