//! Decisions checked against values that the originals' own libraries made.

mod csrf;
mod ticket;
