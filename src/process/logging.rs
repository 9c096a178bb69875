//! The log: the journal where this process belongs to it, else lines on stderr.

use std::io::IsTerminal as _;

use nix::sys::stat::fstat;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Who reads what is written to stderr.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reader {
    /// somebody, or the journal
    Stderr,
    /// the process was left alone
    Nobody,
}

/// Starts logging. The journal gets fields; where it cannot be reached, lines do.
pub fn start(debug: bool, reader: Reader) {
    let level = if debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let registry = tracing_subscriber::registry().with(level);
    let wants_journal = reader == Reader::Nobody || stderr_is_the_journal();
    if wants_journal && let Ok(journal) = tracing_journald::layer() {
        return registry.with(journal.with_field_prefix(None)).init();
    }
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(debug)
        // The library would tell of a stderr that is closed on stderr, and panic.
        .log_internal_errors(false);
    registry.with(lines).init();
}

/// Whether `JOURNAL_STREAM` (systemd.exec(5)) names the file behind stderr: it is inherited by programs whose stderr
/// goes elsewhere.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = fstat(std::io::stderr()) else { return false };
    stream == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}
