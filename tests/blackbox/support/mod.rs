//! What the tests share: a prepared root, a running nodegate, and a client that shows everything it received.

pub mod http;
pub mod nodegate;
pub mod outcome;
pub mod site;

pub use http::{Reply, Session};
pub use nodegate::Nodegate;
pub use outcome::Outcome;
pub use site::Site;
