//! Metrics of the process: counters, latencies, open consoles and tunnels, and the reports made of them.
//!
//! [`counters::Metrics`] has them all. The process creates one, and everything that counts gets a reference to it.

pub mod counters;
pub mod family;
pub mod histogram;
pub mod history;
pub mod labels;
pub mod latency_window;
pub mod process;
mod prometheus;
pub mod queues;
pub mod report;
pub mod sessions;
pub mod units;
pub mod upstreams;
pub mod warnings;
