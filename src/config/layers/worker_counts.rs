//! The numbers of workers that the daemons' own files in `/etc/default` set.

use std::path::Path;

use super::SettingsLayers;
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::product::{BackendRules, WorkerCountFile};
use crate::config::root::RootDirectory;
use crate::config::shell;

/// The worker counts that the daemons accept. They start their default number instead of any other count.
const ACCEPTED: std::ops::RangeInclusive<u8> = 1..=127;

impl SettingsLayers {
    /// Takes the worker counts from the files that the profile names; the files may be missing. `own_file` is the
    /// product's own file, whose problems are already known.
    pub fn worker_counts(&mut self, backend: &BackendRules, root: &RootDirectory, own_file: Option<&Path>) {
        let sources = [
            ("backend.workers", &backend.workers),
            ("backend.unprivileged_workers", &backend.unprivileged_workers),
        ];
        for (key, source) in sources {
            if let Some(WorkerCountFile { file, name }) = source {
                let path = root.path(file);
                let problems = self.worker_count(key, &path, name);
                if own_file != Some(path.as_path()) {
                    self.problems.extend(problems);
                }
            }
        }
    }

    /// Takes one count, and returns the problems with its file. The daemon reads its file itself, so they are only
    /// warnings here.
    fn worker_count(&mut self, key: &str, path: &Path, name: &str) -> Vec<Diagnostic> {
        let place = |line| ValueOrigin::File { path: path.to_path_buf(), line };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                return vec![Diagnostic::warning(place(None), key, format!("cannot be read: {error}"))];
            }
        };
        let (assignments, errors) = shell::parse(&text);
        let warn =
            |error: shell::ShellError| Diagnostic::warning(place(Some(error.line)), key, error.message);
        let mut problems: Vec<_> = errors.into_iter().map(warn).collect();
        let last = assignments.into_iter().rev().find(|assignment| assignment.name == name);
        let Some(found) = last.filter(|found| !found.value.trim().is_empty()) else { return problems };
        let origin = place(Some(found.line));
        if found.value.trim().parse().is_ok_and(|count: u8| ACCEPTED.contains(&count)) {
            self.assign(key, Some(found.value), origin.clone(), origin);
        } else {
            let (fewest, most) = (ACCEPTED.start(), ACCEPTED.end());
            let default = self.find(key).text;
            let message = format!(
                "must be a whole number from {fewest} to {most}, not '{}'; using {default}",
                found.value
            );
            problems.push(Diagnostic::warning(origin, format!("{name} ({key})"), message));
        }
        problems
    }
}
