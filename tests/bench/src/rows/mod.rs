//! The rows of the goal table.

pub mod api;

use crate::measure::{Better, Series, Spread, ratio};

/// What a row is to reach.
pub struct Goal {
    pub figure: &'static str,
    pub better: Better,
    pub against: Against,
    /// the ratio to reach, or the figure itself
    pub bound: f64,
}

/// Whom a goal compares with.
pub enum Against {
    /// the best of all the others
    Best,
    One(&'static str),
    /// the figure by itself
    Nobody,
}

/// One measured row. The first series is nodegate's.
pub struct Row {
    pub id: &'static str,
    pub job: String,
    /// name, unit, digits after the point
    pub figures: Vec<(&'static str, &'static str, usize)>,
    pub series: Vec<Series>,
    pub goals: Vec<Goal>,
}

impl Goal {
    pub fn at_least(bound: f64, figure: &'static str, against: Against) -> Self {
        Self { figure, better: Better::Higher, against, bound }
    }

    pub fn at_most(bound: f64, figure: &'static str, against: Against) -> Self {
        Self { figure, better: Better::Lower, against, bound }
    }

    /// The ratio (or figure) that was reached.
    pub fn reached(&self, row: &Row) -> Option<Spread> {
        let (ours, others) = row.series.split_first()?;
        let rivals: Vec<&Series> = match self.against {
            Against::Nobody => return Spread::of(ours.values(self.figure)),
            Against::Best => others.iter().collect(),
            Against::One(name) => others.iter().filter(|series| series.name == name).collect(),
        };
        ratio(self.figure, self.better, ours, &rivals)
    }

    pub fn is_met(&self, reached: f64) -> bool {
        match self.better {
            Better::Higher => reached >= self.bound,
            Better::Lower => reached <= self.bound,
        }
    }
}
