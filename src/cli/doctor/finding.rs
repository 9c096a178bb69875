//! A finding of the doctor, and the closed set of its probes.

use serde::Serialize;

/// How much a finding matters; the worst first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// users feel it
    Error,
    Warning,
    /// something that the doctor could not look at, or a fact that explains other findings
    Note,
    Ok,
}

/// The closed set of probes, named for their subjects.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Probe {
    Settings,
    Process,
    Ports,
    Service,
    Daemons,
    Nodes,
    Names,
    Clock,
    Files,
    Disk,
    Network,
    Product,
}

impl Probe {
    pub(super) const ALL: [Self; 12] = [
        Self::Settings,
        Self::Process,
        Self::Ports,
        Self::Service,
        Self::Daemons,
        Self::Nodes,
        Self::Names,
        Self::Clock,
        Self::Files,
        Self::Disk,
        Self::Network,
        Self::Product,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Process => "process",
            Self::Ports => "ports",
            Self::Service => "service",
            Self::Daemons => "daemons",
            Self::Nodes => "nodes",
            Self::Names => "names",
            Self::Clock => "clock",
            Self::Files => "files",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Product => "product",
        }
    }
}

/// One result of a probe.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) what: String,
    /// the consequence
    pub(super) why: Option<String>,
    /// a command, or what to do
    pub(super) mend: Option<String>,
}

impl Finding {
    pub(super) fn error(what: impl Into<String>) -> Self {
        Self::new(Level::Error, what)
    }

    pub(super) fn warning(what: impl Into<String>) -> Self {
        Self::new(Level::Warning, what)
    }

    pub(super) fn note(what: impl Into<String>) -> Self {
        Self::new(Level::Note, what)
    }

    pub(super) fn ok(what: impl Into<String>) -> Self {
        Self::new(Level::Ok, what)
    }

    fn new(level: Level, what: impl Into<String>) -> Self {
        Self { level, what: what.into(), why: None, mend: None }
    }

    #[must_use]
    pub(super) fn because(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    #[must_use]
    pub(super) fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }
}
