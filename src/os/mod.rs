//! The process itself: its log, its pid file, its privileges; and the one that runs already.

pub mod listener;
pub mod log_throttle;

pub mod daemon_process;
pub mod daemonize;
pub mod executable;
pub mod fault_injection;
pub mod log_limit;
pub mod log_text;
pub mod logging;
pub mod memory;
pub mod other_user;
pub mod pid_file;
pub mod privileges;
pub mod request_context;
pub mod rlimit;
pub mod sandbox;
pub mod systemd;
