//! Metrics of the process: counters, latencies, open consoles and tunnels, and the report made of them.

pub mod counters;
mod histogram;
pub mod labels;
pub mod latency_window;
pub mod prometheus;
pub mod report;
pub mod sessions;
pub mod upstreams;
