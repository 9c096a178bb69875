//! `make bench`: nodegate beside nginx and HAProxy, row after row.

#![allow(dead_code)]

mod backend;
mod lab;
mod load;
mod measure;
mod proxy;
mod report;
mod rows;
mod wrk;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// Measures nodegate beside nginx and HAProxy.
#[derive(Parser)]
struct Options {
    /// the binary to measure
    #[arg(long, default_value = "target/release/nodegate")]
    nodegate: PathBuf,
    /// rows to measure, all when empty
    rows: Vec<String>,
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// How long, how often.
pub struct Plan {
    pub repeats: usize,
    pub seconds: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let lab = lab::Lab::new(&options.nodegate.canonicalize()?)?;
    let plan = Plan { repeats: options.repeats, seconds: options.seconds };
    let wanted = |id: &str| options.rows.is_empty() || options.rows.iter().any(|row| row == id);
    let mut rows = Vec::new();
    if wanted("api-kept") {
        rows.push(rows::api::row(&lab, &plan, proxy::Upstream::Kept)?);
    }
    if wanted("api-fresh") {
        rows.push(rows::api::row(&lab, &plan, proxy::Upstream::Fresh)?);
    }
    for row in &rows {
        println!("{}", row.job);
        for series in &row.series {
            print!("  {:10}", series.name);
            for (figure, unit, digits) in &row.figures {
                if let Some(s) = measure::Spread::of(series.values(figure)) {
                    print!(
                        "  {:.*} {unit} [{:.*}-{:.*}]",
                        digits, s.median, digits, s.least, digits, s.greatest
                    );
                }
            }
            println!();
        }
        for goal in &row.goals {
            if let Some(s) = goal.reached(row) {
                println!(
                    "  {} {:.2} [{:.2}-{:.2}] goal {} met {}",
                    goal.figure,
                    s.median,
                    s.least,
                    s.greatest,
                    goal.bound,
                    goal.is_met(s.median)
                );
            }
        }
    }
    Ok(())
}
