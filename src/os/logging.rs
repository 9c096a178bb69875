//! The log: the journal if this process belongs to it, otherwise lines on stderr. Both name the current request.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::stat::fstat;
use tracing::field::{Empty, display};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Span, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::os::request_context;

/// The reader of stderr.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StderrReader {
    /// a terminal, a file, or the journal
    Stderr,
    /// the process is detached
    Absent,
}

/// Set once, when logging starts; a command asks it about its own process.
static IS_JOURNAL: AtomicBool = AtomicBool::new(false);

/// Whether the log goes to the journal.
pub fn is_journal() -> bool {
    IS_JOURNAL.load(Ordering::Relaxed)
}

/// Starts logging. The journal gets fields. If it cannot be reached, stderr gets lines.
pub fn start(debug: bool, reader: StderrReader) {
    let level = if debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    // It logs each frame, and malformed paths, which may hold secrets.
    let shown = Targets::new().with_default(level).with_target("h2", LevelFilter::OFF);
    let registry = tracing_subscriber::registry().with(shown);
    let wants_journal = reader == StderrReader::Absent || stderr_is_the_journal();
    if wants_journal && let Ok(journal) = tracing_journald::layer() {
        let priorities = PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            ..PriorityMappings::new()
        };
        let journal = journal.with_field_prefix(None).with_priority_mappings(priorities);
        IS_JOURNAL.store(true, Ordering::Relaxed);
        return registry.with(JournalLayer(journal)).init();
    }
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(LineFields)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(debug)
        // If stderr is closed, the library would report that on stderr and panic.
        .log_internal_errors(false);
    registry.with(lines).init();
}

/// Whether `JOURNAL_STREAM` (systemd.exec(5)) names the file behind stderr. Programs inherit the variable even if
/// their stderr leads to another file.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = fstat(std::io::stderr()) else { return false };
    stream == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}

/// Formats the fields of a line, and the request after them.
struct LineFields;

impl<'writer> FormatFields<'writer> for LineFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        DefaultFields::new().format_fields(writer.by_ref(), fields)?;
        match request_context::current_id() {
            Some(id) => write!(writer, " request={id}"),
            None => Ok(()),
        }
    }
}

/// The journal's layer takes fields from events and from their spans. A span around each request would cost time in
/// every request; a span around each event costs time only in those that log.
struct JournalLayer(tracing_journald::Layer);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JournalLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let span = about_the_request();
        span.in_scope(|| self.0.on_event(event, context));
    }
}

fn about_the_request() -> Span {
    let span = tracing::error_span!("about", NODE = Empty, REQUEST = Empty, CLIENT = Empty, USER = Empty);
    if let Some(node) = request_context::node() {
        span.record("NODE", node);
    }
    request_context::current(|context| {
        span.record("REQUEST", display(context.id)).record("CLIENT", display(context.client));
        if let Some(user) = context.user() {
            span.record("USER", user);
        }
    });
    span
}
