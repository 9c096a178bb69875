//! Rows as Markdown: each measured row is kept as a file, so that one row can be measured again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::measure::{Better, Spread};
use crate::page::{Page, Release};
use crate::plot;
use crate::rows::{Against, Goal, Row};

/// The rows' order in the tables.
const ORDER: &[&str] = &[
    "api-kept",
    "api-kept-h2load",
    "api-kept-nginx",
    "api-kept-nginx-h2load",
    "api-fresh",
    "api-fresh-h2load",
    "api-fresh-nginx",
    "api-fresh-nginx-h2load",
    "api-one",
    "api-one-h2load",
    "api-one-nginx",
    "api-one-nginx-h2load",
    "api-big",
    "api-big-h2load",
    "api-big-nginx",
    "api-big-nginx-h2load",
    "http2",
    "polling",
    "workers-alone",
    "workers-script",
    "workers-storage",
    "workers-both",
    "workers-scripts",
    "static-identity",
    "static-gzip",
    "rsa-full",
    "rsa-resumed",
    "ecdsa-full",
    "ecdsa-resumed",
    "tunnel-down",
    "tunnel-up",
    "tunnel-echo",
    "console-down",
    "console-up",
    "console-echo",
    "memory",
    "memory-rest",
    "start",
    "gui-20-h1",
    "gui-100-h1",
    "gui-20-h2",
    "gui-100-h2",
    "keystroke-20",
    "keystroke-100",
    "upload",
    "reload",
    "cores",
    "connections",
    "acl",
    "routes",
    "idle",
    "forwarding",
    "slowloris",
    "stalled-downloads",
    "stalled-consoles",
    "strangers",
];

/// Where rows are kept.
pub(crate) struct Report {
    folder: PathBuf,
}

impl Report {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Prints a row and keeps it.
    pub(crate) fn add(&mut self, row: &Row) -> Result<()> {
        let reported = reported(row);
        print(&reported);
        let text = serde_json::to_string_pretty(&reported)?;
        std::fs::write(self.folder.join(format!("{}.json", row.id)), text)?;
        Ok(())
    }

    /// Writes the tables of all rows that are kept.
    pub(crate) fn write(&self, page: &Page, release: &Release) -> Result<()> {
        let rows: Vec<Value> = ORDER
            .iter()
            .filter_map(|id| std::fs::read(self.folder.join(format!("{id}.json"))).ok())
            .map(|bytes| serde_json::from_slice(&bytes).context("a kept row"))
            .collect::<Result<_>>()?;
        let tables = format!("{}\n{}\n{}", machine(release), goals(&rows), figures(&rows));
        let growth = rows.iter().find(|row| text(row, "id") == "connections").map(plot::growth);
        page.write(&tables, growth.as_deref())
    }
}

/// A row in the form in which it is kept: medians and spreads as text.
fn reported(row: &Row) -> Value {
    let series: Vec<_> = row
        .series
        .iter()
        .map(|series| {
            let figures: Vec<_> = row
                .figures
                .iter()
                .map(|figure| {
                    let spread = Spread::of(series.values(figure.name));
                    json!({
                        "title": figure.title,
                        "median": spread.map(|spread| spread.median),
                        "text": spread.map_or_else(|| "–".to_owned(), |spread| with_spread(spread, figure.digits)),
                    })
                })
                .collect();
            json!({ "name": series.name, "figures": figures })
        })
        .collect();
    let goals: Vec<_> = row.goals.iter().filter_map(|goal| goal_as_json(row, goal)).collect();
    json!({ "id": row.id, "job": row.job, "series": series, "goals": goals })
}

fn goal_as_json(row: &Row, goal: &Goal) -> Option<Value> {
    let reached = goal.reached(row)?;
    let sign = if goal.better == Better::Higher { "≥" } else { "≤" };
    let whom = match goal.against {
        Against::Nothing => String::new(),
        Against::Best => " × the best".to_owned(),
        Against::One(name) => format!(" × {name}"),
    };
    let title = row.figures.iter().find(|figure| figure.name == goal.figure)?.title;
    Some(json!({
        "goal": format!("{title} {sign} {}{whom}", goal.bound),
        "reached": with_spread(reached, 2),
        "met": goal.is_met(reached.median),
    }))
}

fn with_spread(spread: Spread, digits: usize) -> String {
    format!("{:.digits$} [{:.digits$}–{:.digits$}]", spread.median, spread.least, spread.greatest)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// Every goal with what was reached.
fn goals(rows: &[Value]) -> String {
    let mut table = String::from("| job | goal | reached | met |\n|---|---|---|---|\n");
    for row in rows {
        for goal in list(row, "goals") {
            let met = if goal.get("met") == Some(&Value::Bool(true)) { "yes" } else { "**no**" };
            let (goal, reached) = (text(goal, "goal"), text(goal, "reached"));
            let _ = writeln!(table, "| {} | {goal} | {reached} | {met} |", text(row, "job"));
        }
    }
    table
}

/// A table for each row: the candidates, and every figure.
fn figures(rows: &[Value]) -> String {
    let mut tables = String::new();
    for row in rows {
        let titles: Vec<_> = list(row, "series")
            .next()
            .map(|series| list(series, "figures").map(|figure| text(figure, "title")).collect())
            .unwrap_or_default();
        let rule = "---|".repeat(titles.len() + 1);
        let _ = write!(tables, "\n{}:\n\n| | {} |\n|{rule}\n", text(row, "job"), titles.join(" | "));
        for series in list(row, "series") {
            let values: Vec<_> = list(series, "figures").map(|figure| text(figure, "text")).collect();
            let _ = writeln!(tables, "| {} | {} |", text(series, "name"), values.join(" | "));
        }
    }
    tables
}

fn print(row: &Value) {
    eprintln!("{}", text(row, "job"));
    for series in list(row, "series") {
        let values = list(series, "figures")
            .map(|figure| format!("{} {}", text(figure, "text"), text(figure, "title")));
        eprintln!("  {:24} {}", text(series, "name"), values.collect::<Vec<_>>().join("  "));
    }
    for goal in list(row, "goals") {
        let met = if goal.get("met") == Some(&Value::Bool(true)) { "met" } else { "NOT met" };
        eprintln!("  {met}: {}: {}", text(goal, "goal"), text(goal, "reached"));
    }
}

/// Machine and versions of the measurement.
fn machine(release: &Release) -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let versions = [
        release.name.clone(),
        said("nginx", &["-v"]),
        said("haproxy", &["-v"]),
        format!("Caddy {}", said("caddy", &["version"])),
        said("openssl", &["version"]),
        said("wrk", &["-v"]),
        said("h2load", &["--version"]),
        said("uname", &["-sr"]),
        crate::network::congestion_control(),
        said("rustc", &["--version"]),
        revision(),
    ];
    format!(
        "Measured {} on {} ({} cores): {}.\n",
        said("date", &["+%Y-%m-%d"]),
        processor.map_or("an unknown processor", |(_, model)| model),
        std::thread::available_parallelism().map_or(0, usize::from).max(crate::lab::LOAD_CORE + 1),
        versions.join("; ")
    )
}

/// The measured commit. A root of another release has no git, so its caller names the commit.
fn revision() -> String {
    std::env::var("BENCH_REVISION").unwrap_or_else(|_| said("git", &["describe", "--always", "--dirty"]))
}

/// The first line that a command says of itself.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().unwrap_or_default().trim().to_owned()
}
