//! The back ends of black-box tests and of the demo: a stand-in for the privileged daemon, with keys, tickets and
//! certificates to throw away.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::missing_panics_doc,
    reason = "test equipment: a broken assumption has to end the test, loudly and at once"
)]

mod answer;
mod api;
mod background;
mod certs;
mod console;
mod credential;
mod daemon;
pub mod demo;
mod download;
mod echo;
mod form;
mod held;
mod keys;
mod order;
mod record;
mod special;
mod tickets;
mod wire;
mod workers;

pub use certs::{Certificate, KeyKind};
pub use credential::API_TOKEN;
pub use daemon::{Config, Daemon, Listen, Product, User};
pub use echo::Echo;
pub use keys::Keys;
pub use record::Recorded;
pub use special::content;
pub use tickets::{Scheme, forged_ticket, now};
