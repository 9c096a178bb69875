//! Consoles: a websocket on one side, a stand-in's port or socket on the other.

mod browser;
pub mod client;
mod endings;
mod handshake;
mod life;
mod listed;
mod load;
mod messages;
mod origins;
mod panel;
mod refusals;
