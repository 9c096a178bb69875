//! After an update of the product: what its modules register, against the route table and the profile in use.

mod differences;
mod new_table;
mod problems;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use nodegate_standin::Product;
use serde_json::Value;

use crate::support::nodegate::command;
use crate::support::{Outcome, Site};

/// The stand-ins for the products' modules, which the package tests use as well.
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packages/original/perl");
const LIBRARY: &str = "/usr/share/perl5";

/// A machine with the modules of the product, which its serving user can read.
struct InstalledSite {
    site: Site,
    family: &'static str,
}

impl InstalledSite {
    fn new(product: Product) -> Self {
        let site = Site::of(product);
        let (family, table) = match product {
            Product::Pve => ("PVE", "pve.tsv"),
            Product::Pmg => ("PMG", "pmg.tsv"),
        };
        copy(Path::new(MODULES), &site.path(LIBRARY));
        let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/routes").join(table);
        let installed = Self { site, family };
        installed.write("methods.tsv", std::fs::read_to_string(table).unwrap());
        std::fs::set_permissions(installed.site.root(), Permissions::from_mode(0o755)).unwrap();
        installed
    }

    /// Writes a file of the product's modules.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        self.site.write(&format!("{LIBRARY}/{}/{name}", self.family), text);
    }

    /// Changes the methods that the product registers, and what it serves besides.
    fn update(&self, change: impl FnOnce(&mut Vec<String>), served: &str) {
        let path = self.site.path(&format!("{LIBRARY}/{}/methods.tsv", self.family));
        let mut lines: Vec<_> = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        change(&mut lines);
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        self.write(&format!("Service/{}proxy.more", self.family.to_lowercase()), served);
    }

    fn diff(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&mut self.diff_command(arguments))
    }

    fn diff_command(&self, arguments: &[&str]) -> Command {
        let root = self.site.root().to_str().unwrap();
        command(&[&["--root", root, "profile-diff", self.site.profile()], arguments].concat())
    }

    fn diff_json(&self, arguments: &[&str]) -> (i32, Value) {
        let outcome = self.diff(&[&["--json"], arguments].concat());
        let json = serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"));
        (outcome.code, json)
    }
}

/// A line of `methods.tsv` without flags.
fn method(verb: &str, path: &str) -> String {
    format!("{verb}\t{path}\t0\t\t0\t1\tuser\t0\t0\t0")
}

/// The same of a method that needs root.
fn protected(verb: &str, path: &str) -> String {
    method(verb, path).replace("\t0\t\t0\t1", "\t1\t\t0\t1")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
