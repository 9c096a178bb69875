//! The process: its log, pid file, privileges and limits; and the daemon that is already running.

pub mod listener;
pub mod log_throttle;

pub mod daemon_process;
pub mod daemonize;
pub mod executable;
pub mod fault_injection;
pub mod file_version;
pub mod log_file;
pub mod log_limit;
pub mod log_text;
pub mod logging;
pub mod memory;
pub mod other_user;
pub mod pid_file;
pub mod privileges;
pub mod program;
pub mod request_context;
pub mod rlimit;
pub mod sandbox;
pub mod systemd;
pub mod unix_time;
