//! Notifications to systemd and its variables (`sd_notify(3)`, `sd_listen_fds(3)`, `sd_watchdog_enabled(3)`). Without
//! systemd all of it does nothing.

use std::net::TcpListener;
use std::os::fd::FromRawFd as _;
use std::time::Duration;

use sd_notify::NotifyState;
use socket2::{Domain, SockRef};

/// Variables for a single process.
pub const SINGLE_PROCESS_VARIABLES: &[&str] = &["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

pub fn ready() {
    notify(&[NotifyState::Ready]);
}

pub fn reloading() {
    let now = NotifyState::monotonic_usec_now().ok();
    let states: Vec<_> = [NotifyState::Reloading].into_iter().chain(now).collect();
    notify(&states);
}

pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Reports that another process is the service from now on.
pub fn notify_main_pid(pid: u32) {
    notify(&[NotifyState::MainPid(pid)]);
}

pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

pub fn status(text: &str) {
    notify(&[NotifyState::Status(text)]);
}

/// Whether systemd listens for notifications.
pub fn is_present() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The interval of `alive`. A successor gets no `WATCHDOG_PID`: it reports in place of the process that systemd has
/// started.
pub fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let period = number("WATCHDOG_USEC").filter(|period| is_ours && *period > 1)?;
    Some(Duration::from_micros(period))
}

/// The sockets that systemd has opened, if any.
pub fn sockets() -> Result<Vec<TcpListener>, String> {
    // The variables stay set: other threads may read the environment. A successor does not get them.
    let given = sd_notify::listen_fds_with_names(false).map_err(|error| format!("LISTEN_FDS: {error}"))?;
    let mut sockets = Vec::new();
    for (descriptor, _) in given {
        // SAFETY: systemd has opened it for this process (LISTEN_PID), and nothing else here uses it.
        let socket = unsafe { TcpListener::from_raw_fd(descriptor) };
        let about = SockRef::from(&socket);
        let listens = about.is_listener().unwrap_or(false);
        let is_internet = about.domain().is_ok_and(|domain| [Domain::IPV4, Domain::IPV6].contains(&domain));
        if !listens || !is_internet {
            return Err(format!(
                "descriptor {descriptor} that systemd hands over is not a listening TCP socket"
            ));
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::debug!(%error, "systemd cannot be notified");
    }
}
