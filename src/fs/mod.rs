//! Files that may hang or change while nodegate runs.

pub mod blocking_worker;
pub mod cached_file;
