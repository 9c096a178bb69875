//! Authentication: tickets, API tokens, CSRF tokens.

pub mod authenticator;
pub mod credential_cache;
pub mod credential_memory;
pub mod csrf;
pub mod error;
pub mod fetch_site;
pub mod page_login;
mod rule_check;
mod text_forms;
pub mod ticket;
mod ticket_verifier;
mod write_check;
