//! The rows of the goal table: candidates, measurements and goals.

pub(crate) mod abuse;
pub(crate) mod api;
pub(crate) mod bytes;
pub(crate) mod felt;
pub(crate) mod files;
pub(crate) mod growth;
pub(crate) mod handshakes;
pub(crate) mod memory;
pub(crate) mod permit;
pub(crate) mod reload;
pub(crate) mod strangers;
pub(crate) mod upload;
pub(crate) mod workers;

use anyhow::Result;

use crate::Plan;
use crate::lab::Lab;
use crate::measure::{Better, Series, Spread, best, ratio};

/// The goal of a row.
pub(crate) struct Goal {
    pub figure: &'static str,
    pub better: Better,
    pub against: Against,
    /// the ratio to reach, or the figure itself
    pub bound: f64,
}

/// How the names of other builds of nodegate begin.
pub(crate) const BUILD: &str = "build ";

/// The competitor of a goal.
pub(crate) enum Against {
    /// the best of all the others that are not nodegate in some way
    Best,
    One(&'static str),
    /// the figure by itself
    Nothing,
}

/// A figure of a row.
#[derive(Clone, Copy)]
pub(crate) struct Figure {
    pub name: &'static str,
    pub title: &'static str,
    pub digits: usize,
}

pub(crate) const fn figure(name: &'static str, title: &'static str, digits: usize) -> Figure {
    Figure { name, title, digits }
}

/// One measured row. The first series is nodegate's.
pub(crate) struct Row {
    pub id: &'static str,
    pub job: String,
    pub figures: Vec<Figure>,
    pub series: Vec<Series>,
    pub goals: Vec<Goal>,
}

/// Measures one row, or several that are measured together.
pub(crate) type Measure = fn(&Lab, &Plan) -> Result<Vec<Row>>;

/// All there are, by the names that the command line takes.
pub(crate) const ALL: &[(&str, Measure)] = &[
    ("api-kept", api::kept),
    ("api-fresh", api::fresh),
    ("api-one", api::one),
    ("api-big", api::big),
    ("http2", api::http2),
    ("polling", api::polling),
    ("workers", workers::measure),
    ("permit", permit::measure),
    ("static", files::measure),
    ("handshakes", handshakes::measure),
    ("tunnel", bytes::tunnel),
    ("tunnel-echo", bytes::tunnel_echo),
    ("console", bytes::console),
    ("console-echo", bytes::console_echo),
    ("memory", memory::measure),
    ("memory-rest", memory::after_requests),
    ("start", memory::start),
    ("gui", felt::gui),
    ("keystroke", felt::keystroke),
    ("upload", upload::measure),
    ("reload", reload::measure),
    ("growth", growth::measure),
    ("acl", growth::acl),
    ("routes", growth::routes),
    ("abuse", abuse::measure),
    ("strangers", strangers::measure),
];

impl Goal {
    pub(crate) fn at_least(bound: f64, figure: &'static str, against: Against) -> Self {
        Self { figure, better: Better::Higher, against, bound }
    }

    pub(crate) fn at_most(bound: f64, figure: &'static str, against: Against) -> Self {
        Self { figure, better: Better::Lower, against, bound }
    }

    /// The ratio (or figure) that was reached.
    pub(crate) fn reached(&self, row: &Row) -> Option<Spread> {
        let (ours, others) = row.series.split_first()?;
        let rival = match self.against {
            Against::Nothing => return Spread::of(ours.values(self.figure)),
            Against::Best => {
                let is_ours = |name: &str| name.starts_with(BUILD) || name.starts_with("nodegate");
                let peers: Vec<_> = others.iter().filter(|one| !is_ours(one.name)).collect();
                best(self.figure, self.better, &peers)
            }
            Against::One(name) => others.iter().find(|one| one.name == name),
        };
        ratio(self.figure, ours, rival?)
    }

    pub(crate) fn is_met(&self, reached: f64) -> bool {
        match self.better {
            Better::Higher => reached >= self.bound,
            Better::Lower => reached <= self.bound,
        }
    }
}
