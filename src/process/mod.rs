//! The process itself: its log, its pid file, its privileges; and the one that runs already.

pub mod background;
pub mod binary;
pub mod confinement;
pub mod descriptors;
pub mod fault;
pub mod log_context;
pub mod log_limit;
pub mod log_text;
pub mod logging;
pub mod memory;
pub mod other_user;
pub mod pid_file;
pub mod privileges;
pub mod readable;
pub mod running;
pub mod service_manager;
