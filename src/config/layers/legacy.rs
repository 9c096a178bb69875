//! The product's own `/etc/default/…` file.

use std::path::Path;

use super::hints::legacy_hint;
use super::{SettingsLayers, find_legacy};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::setting::ValueKind;
use crate::config::shell;

impl SettingsLayers {
    /// Reads the file, which may be missing. Hints name `site_file` for settings that have no name here.
    pub fn legacy_file(&mut self, path: &Path, site_file: &Path) {
        let Some(bytes) = self.read(path) else { return };
        let (assignments, errors) = shell::parse(&bytes);
        let place = |line| ValueOrigin::File { path: path.to_path_buf(), line: Some(line) };
        for error in errors {
            self.problems.push(Diagnostic::error(place(error.line), "", error.message));
        }
        // As in a shell, the last assignment of a name wins.
        for (index, assignment) in assignments.iter().enumerate() {
            if assignments.iter().skip(index + 1).any(|later| later.name == assignment.name) {
                continue;
            }
            let origin = place(assignment.line);
            let Some(key) = find_legacy(&assignment.name) else {
                let hint = legacy_hint(&assignment.name, site_file);
                let message = format!("unknown key, ignored{hint}");
                self.problems.push(Diagnostic::warning(origin, &assignment.name, message));
                continue;
            };
            if key.kind != ValueKind::Bool && assignment.value.trim().is_empty() {
                continue; // the originals treat an empty value as unset
            }
            if key.kind == ValueKind::Bool && !matches!(assignment.value.as_str(), "0" | "1") {
                let message = format!("must be 0 or 1, not '{}' ({})", assignment.value, key.key);
                self.problems.push(Diagnostic::error(origin, &assignment.name, message));
                continue;
            }
            self.assign(key.key, Some(assignment.value.clone()), origin.clone(), origin);
        }
    }
}
