//! The findings of all probes as text and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::finding::{Finding, Level, Probe};

/// Columns of the texts behind level and probe.
const WIDTH: usize = 88;
const INDENT: usize = 18;

/// The findings of a run.
pub(super) struct Report {
    pub(super) profile: String,
    /// seconds since 1970
    pub(super) at: u64,
    pub(super) is_root: bool,
    pub(super) took: Duration,
    /// the worst first
    findings: Vec<(Probe, Finding)>,
}

impl Report {
    pub(super) fn new(
        profile: String,
        at: u64,
        is_root: bool,
        took: Duration,
        mut findings: Vec<(Probe, Finding)>,
    ) -> Self {
        findings.sort_by_key(|(probe, finding)| (finding.level, *probe));
        Self { profile, at, is_root, took, findings }
    }

    pub(super) fn has_errors(&self) -> bool {
        self.count(Level::Error) > 0
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|(_, finding)| finding.level == level).count()
    }

    pub(super) fn to_json(&self) -> Value {
        let findings = self.findings.iter().map(|(probe, Finding { level, what, why, mend })| {
            json!({ "probe": probe, "level": level, "what": what, "why": why, "mend": mend })
        });
        json!({
            "profile": self.profile,
            "version": env!("CARGO_PKG_VERSION"),
            "time": self.at,
            "seconds": self.took.as_secs_f64(),
            "root": self.is_root,
            "errors": self.count(Level::Error),
            "warnings": self.count(Level::Warning),
            "notes": self.count(Level::Note),
            "findings": findings.collect::<Vec<_>>(),
        })
    }

    /// Findings first, then a line for each probe with what is good.
    pub(super) fn to_text(&self) -> String {
        let count = |level, name: &str| {
            let count = self.count(level);
            format!("{count} {name}{}", if count == 1 { "" } else { "s" })
        };
        let mut text = format!(
            "{}: {}, {}, {}\n",
            self.profile,
            count(Level::Error, "error"),
            count(Level::Warning, "warning"),
            count(Level::Note, "note")
        );
        for (probe, finding) in self.findings.iter().filter(|(_, finding)| finding.level != Level::Ok) {
            text.push('\n');
            describe(&mut text, *probe, finding);
        }
        text.push('\n');
        for probe in Probe::ALL {
            let good =
                self.findings.iter().filter(|(of, finding)| *of == probe && finding.level == Level::Ok);
            let good: Vec<_> = good.map(|(_, finding)| finding.what.as_str()).collect();
            if !good.is_empty() {
                paragraph(&mut text, "ok", probe.name(), &good.join("; "));
            }
        }
        text
    }
}

fn describe(text: &mut String, probe: Probe, finding: &Finding) {
    let level = match finding.level {
        Level::Error => "ERROR",
        Level::Warning => "WARNING",
        Level::Note => "note",
        Level::Ok => "ok",
    };
    paragraph(text, level, probe.name(), &finding.what);
    if let Some(why) = &finding.why {
        paragraph(text, "", "why", why);
    }
    // One line, so that it can be copied.
    if let Some(mend) = &finding.mend {
        let _ = writeln!(text, "{:<8} {:<9}{mend}", "", "mend");
    }
}

/// Wraps between words. A word that is longer than a line stays whole, so that commands can be copied.
fn paragraph(text: &mut String, level: &str, name: &str, words: &str) {
    let mut line = format!("{level:<8} {name:<9}");
    let mut length = 0;
    for word in words.split_whitespace() {
        if length > 0 && length + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            (line, length) = (" ".repeat(INDENT), 0);
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += word.chars().count();
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let findings = vec![
            (Probe::Ports, Finding::ok("port 8006: nodegate")),
            (Probe::Nodes, Finding::ok("node2 in 3 ms")),
            (Probe::Nodes, Finding::error("node3 is dead").because("calls fail").mend("ping node3")),
            (Probe::Ports, Finding::ok("port 9100: nodegate")),
            (Probe::Clock, Finding::note("no systemd")),
        ];
        Report::new("pve".to_owned(), 1_700_000_000, true, Duration::from_millis(250), findings)
    }

    #[test]
    fn findings_come_first_and_good_lines_are_joined() {
        let expected = "pve: 1 error, 0 warnings, 1 note\n\n\
             ERROR    nodes    node3 is dead\n\
             \x20        why      calls fail\n\
             \x20        mend     ping node3\n\n\
             note     clock    no systemd\n\n\
             ok       ports    port 8006: nodegate; port 9100: nodegate\n\
             ok       nodes    node2 in 3 ms\n";
        assert_eq!(report().to_text(), expected);
        assert!(report().has_errors());
    }

    #[test]
    fn long_texts_wrap_between_words() {
        let mut text = String::new();
        paragraph(&mut text, "note", "disk", &format!("{} {}", "word ".repeat(20), "x".repeat(120)));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].starts_with(&" ".repeat(INDENT)) && lines[0].len() <= INDENT + WIDTH, "{text}");
        assert_eq!(lines[2].trim(), "x".repeat(120));
    }

    #[test]
    fn json_has_every_field() {
        let json = report().to_json();
        assert_eq!(
            json["findings"][0],
            json!({
                "probe": "nodes", "level": "error", "what": "node3 is dead", "why": "calls fail", "mend": "ping node3",
            })
        );
        assert_eq!((&json["errors"], &json["warnings"], &json["notes"]), (&json!(1), &json!(0), &json!(1)));
        assert_eq!(json["findings"][2]["why"], Value::Null);
        assert_eq!(
            (&json["profile"], &json["root"], &json["seconds"]),
            (&json!("pve"), &json!(true), &json!(0.25))
        );
    }
}
