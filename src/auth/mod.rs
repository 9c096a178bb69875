//! Who sends a request, and whether it may pass.

pub mod authenticator;
pub mod credential_cache;
pub mod credential_memory;
pub mod csrf;
pub mod error;
pub mod fetch_site;
pub mod page_login;
pub mod ticket;
pub(crate) mod ticket_verifier;
pub(crate) mod write_check;
