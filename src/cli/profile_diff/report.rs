//! The comparison as text and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::difference::{self, Change, Difference, DifferentPart};
use super::installed::{InstalledProduct, ServedKind};
use crate::config::Config;
use crate::config::loaded_routes::RouteSource;

/// All differences, and what was compared.
pub(super) struct DiffReport<'a> {
    /// as on the command line
    profile: &'a str,
    config: &'a Config,
    installed: &'a InstalledProduct,
    differences: Vec<Difference>,
}

impl<'a> DiffReport<'a> {
    pub(super) fn new(profile: &'a str, config: &'a Config, installed: &'a InstalledProduct) -> Self {
        Self { profile, config, installed, differences: difference::find(config, installed) }
    }

    pub(super) fn differs(&self) -> bool {
        !self.differences.is_empty()
    }

    fn failing(&self) -> usize {
        self.differences.iter().filter(|difference| difference.consequence.fails).count()
    }

    pub(super) fn to_json(&self) -> Value {
        let routes = &self.config.routes;
        let differences: Vec<_> = self.differences.iter().map(as_json).collect();
        json!({
            "profile": self.config.product.name,
            "table": {
                "file": routes.source.file(),
                "methods": routes.table.methods().len(),
                "packages": routes.made_from(&self.config.product),
            },
            "installed": { "methods": self.installed.methods.len(), "packages": self.installed.packages },
            "failing": self.failing(),
            "differences": differences,
            "notes": self.installed.notes,
        })
    }

    /// `written` is the file of the new table.
    pub(super) fn to_text(&self, written: Option<&Path>) -> String {
        let packages =
            self.installed.packages.iter().map(|(package, version)| format!("{package} {version}"));
        let packages = packages.collect::<Vec<_>>().join(", ");
        let packages = if packages.is_empty() { packages } else { format!(", {packages}") };
        let mut text = format!(
            "installed  {} methods{packages}\nin use     {}\n",
            self.installed.methods.len(),
            self.config.routes.describe(&self.config.product),
        );
        let count = match (self.differences.len(), self.failing()) {
            (0, _) => "nothing differs".to_owned(),
            (1, failing) => format!("1 difference, {failing} may fail for users"),
            (all, failing) => format!("{all} differences, {failing} may fail for users"),
        };
        let _ = writeln!(text, "\n{count}");
        for difference in &self.differences {
            let _ = write!(text, "\n{}", as_text(difference));
        }
        for note in &self.installed.notes {
            let _ = write!(text, "\nnote     {note}");
        }
        if !self.installed.notes.is_empty() {
            text.push('\n');
        }
        text + &self.next_step(written)
    }

    fn next_step(&self, written: Option<&Path>) -> String {
        let (profile, name) = (self.profile, &self.config.product.name);
        let in_use = match &self.config.routes.source {
            RouteSource::Setting(path) => Some(path),
            RouteSource::Absent | RouteSource::BuiltIn | RouteSource::Profile(_) => None,
        };
        let reload = format!("nodegate check {profile} && nodegate reload {profile}");
        if let Some(file) = written {
            let shown = file.display();
            let is_in_use = in_use.is_some_and(|path| path.canonicalize().ok() == file.canonicalize().ok());
            if is_in_use {
                return format!("\nwritten to {shown}; to put it in effect:\n  {reload}\n");
            }
            let path = file.strip_prefix(self.config.root.directory()).unwrap_or(file);
            let path = Path::new("/").join(path);
            return format!(
                "\nwritten to {shown}; to put it in effect, in /etc/nodegate/{name}.toml:\n  [routes]\n  \
                 file = \"{}\"\nthen:\n  {reload}\n",
                path.display()
            );
        }
        let is_mended = |difference: &Difference| {
            difference.change == Change::Gone || difference.with_new_table.is_some()
        };
        if !self.differences.iter().any(is_mended) {
            return String::new();
        }
        let file =
            in_use.map_or_else(|| format!("/etc/nodegate/{name}.routes"), |path| path.display().to_string());
        format!("\nto use the installed routes:  nodegate profile-diff {profile} --write {file}\n")
    }
}

fn as_json(difference: &Difference) -> Value {
    json!({
        "change": change(difference.change),
        "part": part(difference.part),
        "name": difference.name,
        "ours": difference.ours,
        "installed": difference.installed,
        "fails": difference.consequence.fails,
        "follows": difference.consequence.text,
        "with_new_table": difference.with_new_table,
    })
}

fn as_text(difference: &Difference) -> String {
    let label = if difference.consequence.fails { "FAILS" } else { "works" };
    let kind = format!("{} {}", change(difference.change), part(difference.part));
    let shown = |value: &Option<String>| match value.as_deref() {
        None => None,
        Some("") => Some("-".to_owned()),
        Some(text) => Some(text.to_owned()),
    };
    let values = match (shown(&difference.ours), shown(&difference.installed)) {
        (Some(ours), Some(installed)) => format!("{ours} -> {installed}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => String::new(),
    };
    let mut text = format!("{label:<8} {kind:<14} {}  {values}\n", difference.name);
    let _ = writeln!(text, "         now            {}", difference.consequence.text);
    if let Some(then) = &difference.with_new_table {
        let _ = writeln!(text, "         then           {then}");
    }
    text
}

fn change(change: Change) -> &'static str {
    match change {
        Change::New => "new",
        Change::Gone => "gone",
        Change::Changed => "changed",
    }
}

fn part(part: DifferentPart) -> &'static str {
    match part {
        DifferentPart::Route => "route",
        DifferentPart::Served(ServedKind::Directory) => "directory",
        DifferentPart::Served(ServedKind::File) => "file",
        DifferentPart::Served(ServedKind::Page) => "page",
    }
}
