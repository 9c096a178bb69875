//! The process itself: its log, its pid file, its privileges.

pub mod logging;
pub mod memory;
pub mod pid_file;
pub mod privileges;
