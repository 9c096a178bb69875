//! Helpers of the tests: a prepared root, a running nodegate, and a client that shows everything it received.

pub mod crowd;
pub mod deaf;
pub mod http;
pub mod nodegate;
pub mod original;
pub mod outcome;
pub mod peer;
pub mod product;
pub mod release;
pub mod requirement;
pub mod site;

pub use crowd::all_at_once;
pub use deaf::Deaf;
pub use http::{Reply, Session};
pub use nodegate::Nodegate;
pub use outcome::Outcome;
pub use peer::tls_server;
pub use product::CustomProduct;
pub use release::debian;
pub use requirement::{require, require_root};
pub use site::Site;
