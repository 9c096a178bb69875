//! How `nodegate profile-diff` reads the API of the installed product.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A program that prints what the installed product serves.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DumpRules {
    /// the program and its arguments; `{root}` stands for the directory of `--root`, empty for `/`
    pub command: Vec<String>,
    /// a file beside the profile, or a built-in one, that the program reads from stdin
    pub script: Option<PathBuf>,
    /// the directory of the profile; `None` for a built-in one
    #[serde(skip)]
    pub folder: Option<PathBuf>,
}

impl DumpRules {
    /// The text for stdin.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn script(&self) -> Result<String, String> {
        let Some(name) = &self.script else { return Ok(String::new()) };
        let beside = self.folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.exists());
        if let Some(path) = beside {
            return std::fs::read_to_string(&path)
                .map_err(|error| format!("{} cannot be read: {error}", path.display()));
        }
        let built_in = name.to_str().and_then(super::built_in_file);
        built_in.map(str::to_owned).ok_or_else(|| format!("product.dump.script: no file {}", name.display()))
    }

    /// The program with its arguments.
    pub fn words(&self, root: &Path) -> impl Iterator<Item = String> {
        let root = root.to_string_lossy().trim_end_matches('/').to_owned();
        self.command.iter().map(move |word| word.replace("{root}", &root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_part_of_the_command() {
        let command = ["perl", "-", "{root}", "-I{root}/usr"].map(str::to_owned).to_vec();
        let rules = DumpRules { command, script: None, folder: None };
        let words = |root: &str| rules.words(Path::new(root)).collect::<Vec<_>>();
        assert_eq!(words("/"), ["perl", "-", "", "-I/usr"]);
        assert_eq!(words("/srv/x/"), ["perl", "-", "/srv/x", "-I/srv/x/usr"]);
    }

    #[test]
    fn a_script_is_a_file_or_built_in() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.pl"), "mine").unwrap();
        let rules = |name: &str, folder: Option<&Path>| DumpRules {
            command: Vec::new(),
            script: Some(name.into()),
            folder: folder.map(Path::to_owned),
        };
        assert_eq!(rules("mine.pl", Some(folder.path())).script().as_deref(), Ok("mine"));
        assert!(rules("mine.pl", None).script().unwrap_err().contains("no file mine.pl"));
        let built_in = rules("dump-api.pl", Some(folder.path())).script().unwrap();
        assert!(built_in.contains("use strict;"));
    }
}
