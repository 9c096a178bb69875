//! Decisions checked against values that the originals' own libraries made.

mod csrf;
mod routes;
mod ticket;
