//! The change of a unit from the original to nodegate, and back.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::drop_ins;
use super::subject::Subject;
use super::systemctl;
use super::unit_files::Placement;

/// The original listens within this time after its start.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Starts nodegate for a trial.
pub(super) fn to_trial(subject: &Subject) -> Result<(), String> {
    let text = drop_ins::trial(&subject.config, &subject.command());
    subject.files.place_trial(&text).map_err(|error| error.to_string())?;
    systemctl::daemon_reload()?;
    subject.unit.restart()
}

/// Makes what the unit runs permanent. The process goes on.
pub(super) fn keep(subject: &Subject) -> Result<(), String> {
    let texts = drop_ins::drop_ins(&subject.config, &subject.command());
    subject.files.place_nodegate(&texts).map_err(|error| error.to_string())?;
    systemctl::daemon_reload()
}

/// Ends the fallback without a restart: the original runs, and stays over a reboot.
pub(super) fn keep_original(subject: &Subject) -> Result<(), String> {
    subject.files.place_original().map_err(|error| error.to_string())?;
    systemctl::daemon_reload()?;
    let fallback = systemctl::Unit::instance("nodegate-fallback", subject.daemon());
    if fallback.is_up() { fallback.stop() } else { Ok(()) }
}

/// Starts the original, if its unit was not stopped. If it does not start, nodegate serves again, because a node
/// without a server is worse. The result is what serves now, for a message.
///
/// # Errors
/// The reason, and what serves now.
pub(super) fn to_original(subject: &Subject) -> Result<String, String> {
    let (daemon, unit) = (subject.daemon(), &subject.unit.name);
    match subject.files.placement() {
        Placement::Original => return Ok(format!("{unit} is the original's already")),
        Placement::Fallback => {
            keep_original(subject)?;
            return Ok(format!("the original {daemon} serves, and stays over reboots and upgrades"));
        }
        Placement::Trial | Placement::Nodegate => (),
    }
    let was_running = !matches!(subject.unit.state().as_str(), "inactive" | "unknown");
    let saved = subject.files.snapshot().map_err(|error| error.to_string())?;
    let placed = subject.files.place_original().map_err(|error| error.to_string());
    let started = placed
        .and_then(|()| systemctl::daemon_reload())
        .and_then(|()| if was_running { start_original(subject) } else { Ok(()) });
    let Err(reason) = started else {
        return Ok(if was_running {
            format!("the original {daemon} has its port again")
        } else {
            format!("{unit} is the original's again; it was stopped, and stays so")
        });
    };
    let restored = subject.files.restore(&saved).map_err(|error| error.to_string());
    let serves = restored.and_then(|()| systemctl::daemon_reload()).and_then(|()| subject.unit.restart());
    Err(match serves {
        Ok(()) => {
            format!("the original {daemon} does not start ({reason}): nodegate serves again in its place")
        }
        Err(error) => format!(
            "the original {daemon} does not start ({reason}), and neither does nodegate ({error}): nothing serves the \
             port"
        ),
    })
}

fn start_original(subject: &Subject) -> Result<(), String> {
    subject.unit.restart()?;
    let Some(address) = subject.original_address() else { return Ok(()) };
    let until = Instant::now() + LISTEN_TIMEOUT;
    while let Err(error) = TcpStream::connect_timeout(&address, LISTEN_TIMEOUT) {
        if Instant::now() > until {
            return Err(format!("it does not listen on {address}: {error}"));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
