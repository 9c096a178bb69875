//! `make bench`: nodegate beside nginx, HAProxy and Caddy, row after row.

mod backend;
mod first_view;
mod h2load;
mod lab;
mod line;
mod load;
mod measure;
mod network;
mod page;
mod plot;
mod proxy;
mod report;
mod rows;
mod train;
mod wrk;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

/// Measures nodegate beside nginx, HAProxy and Caddy, each on one core, the load on another.
#[derive(Parser)]
struct Options {
    /// Rows to measure; all when none is named
    rows: Vec<String>,
    /// The binary to measure
    #[arg(long, default_value = "target/release/nodegate")]
    nodegate: PathBuf,
    /// Another build to measure in the same run, in the rows of calls, files, handshakes, tunnels and consoles; may be given again
    #[arg(long, value_name = "BINARY")]
    beside: Vec<PathBuf>,
    /// Interleaved runs of each contender
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Seconds of a run
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Idle connections of the rows that have them
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Measures nothing: does each kind of work for a while, for a build that a profile guides
    #[arg(long, conflicts_with_all = ["rows", "write", "beside"])]
    train: bool,
    /// Writes the tables to the page of this Debian release in this folder, and the plot beside it; without it they are
    /// printed only
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
    /// Keeps each row's figures here, and takes rows that are not measured now from there; target/bench/debian-13 is the
    /// default on Debian 13
    #[arg(long, value_name = "FOLDER")]
    kept: Option<PathBuf>,
}

/// How long, how often, how many.
pub struct Plan {
    pub repeats: usize,
    pub seconds: f64,
    pub connections: usize,
}

impl Plan {
    /// One run of each, to see that all goes and about how fast.
    pub fn is_quick(&self) -> bool {
        self.repeats == 1
    }

    /// More repeats for what is less than runs differ by; one stays one.
    pub fn many(&self) -> usize {
        if self.is_quick() { 1 } else { self.repeats * 3 }
    }
}

/// Each with the name that it has in the tables: its path, as given.
fn builds(paths: &[PathBuf]) -> Result<Vec<(&'static str, PathBuf)>> {
    let named = |path: &PathBuf| {
        let name: &'static str = format!("{}{}", rows::BUILD, path.display()).leak();
        Ok((name, path.canonicalize().with_context(|| path.display().to_string())?))
    };
    paths.iter().map(named).collect()
}

fn main() -> Result<()> {
    let options = Options::parse();
    let known = |id: &String| rows::ALL.iter().any(|(name, _)| name == id);
    let names = rows::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    ensure!(options.rows.iter().all(known), "rows are: {names}");
    let nodegate = options.nodegate.canonicalize().context("cargo build --release")?;
    let release = page::Release::running()?;
    let page = options.write.as_deref().map(|folder| page::Page::find(folder, &release)).transpose()?;
    network::enter()?;
    let lab = lab::Lab::new(&nodegate, builds(&options.beside)?)?;
    if options.train {
        return train::run(&lab);
    }
    let most = usize::try_from(lab.files / 2).unwrap_or(usize::MAX).saturating_sub(500);
    let plan = Plan {
        repeats: options.repeats,
        seconds: options.seconds,
        connections: options.connections.min(most),
    };
    let kept = options.kept.unwrap_or_else(|| PathBuf::from("target/bench").join(&release.id));
    let mut report = report::Report::open(&kept)?;
    for (name, measure) in rows::ALL {
        if options.rows.is_empty() || options.rows.iter().any(|row| row == name) {
            eprintln!("bench: {name}");
            for row in measure(&lab, &plan).with_context(|| format!("row {name}"))? {
                report.add(&row)?;
            }
        }
    }
    page.map_or(Ok(()), |page| report.write(&page, &release))
}
