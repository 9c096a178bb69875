//! What the process knows of itself while it serves: counts, latencies, the consoles and tunnels that are open, and the
//! report that is made of them.

pub mod bridges;
mod buckets;
pub mod counters;
pub mod exposition;
pub mod labels;
pub mod latencies;
pub mod report;
pub mod upstreams;
