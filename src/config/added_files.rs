//! The directories and files that a route table adds to those of the profile: `directory URL PATH`, `file URL PATH`.

use std::path::{Component, Path, PathBuf};

use super::product::{DirectoryRules, SingleFile};

/// Packages install their files below it. Keys and data lie in other places.
const PACKAGED: &str = "/usr";

/// Files that are served besides those of the profile. An entry with the URL of one of the profile replaces that one.
#[derive(Clone, Debug, Default)]
pub struct AddedFiles {
    pub directories: Vec<DirectoryRules>,
    pub files: Vec<SingleFile>,
}

impl AddedFiles {
    /// Reads a line of a route table; `None` if it is no line of this kind.
    ///
    /// # Errors
    /// The URL or the path has another form.
    pub fn add_line(&mut self, line: &str) -> Option<Result<(), String>> {
        let (word, rest) = line.split_once(' ')?;
        let (url, path) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
        match word {
            "directory" | "file" if self.has_url(url) => {
                Some(Err(format!("the URL '{url}' has a line already")))
            }
            "directory" => Some(parse(url, path, true).map(|(url, path)| {
                self.directories.push(DirectoryRules { url, path, links: Vec::new() });
            })),
            "file" => Some(parse(url, path, false).map(|(url, path)| {
                self.files.push(SingleFile { url, path });
            })),
            _ => None,
        }
    }

    fn has_url(&self, url: &str) -> bool {
        self.directories.iter().any(|known| known.url == url)
            || self.files.iter().any(|known| known.url == url)
    }

    pub fn len(&self) -> usize {
        self.directories.len() + self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a path of a URL lies in one of these.
    pub fn serves(&self, path: &str) -> bool {
        self.directories.iter().any(|added| path.starts_with(&added.url))
            || self.files.iter().any(|added| path == added.url)
    }

    /// The directories of the profile, and these.
    pub fn with_directories<'a>(
        &'a self,
        own: &'a [DirectoryRules],
    ) -> impl Iterator<Item = &'a DirectoryRules> {
        let is_kept = |own: &&DirectoryRules| self.directories.iter().all(|added| added.url != own.url);
        own.iter().filter(is_kept).chain(&self.directories)
    }

    /// The files of the profile, and these.
    pub fn with_files<'a>(&'a self, own: &'a [SingleFile]) -> impl Iterator<Item = &'a SingleFile> {
        let is_kept = |own: &&SingleFile| self.files.iter().all(|added| added.url != own.url);
        own.iter().filter(is_kept).chain(&self.files)
    }
}

/// Whether a route table may name the path.
pub fn is_packaged(path: &Path) -> bool {
    path.starts_with(PACKAGED)
}

fn parse(url: &str, path: &str, is_directory: bool) -> Result<(String, PathBuf), String> {
    if !url.starts_with('/') || url.ends_with('/') != is_directory {
        let end = if is_directory { "end with /" } else { "not end with /" };
        return Err(format!("the URL '{url}' must begin with / and {end}"));
    }
    let path = Path::new(path.trim());
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("'{}' is not an absolute path without ..", path.display()));
    }
    if !is_packaged(path) {
        return Err(format!(
            "'{}' is not below {PACKAGED}: clients read these files without a login",
            path.display()
        ));
    }
    Ok((url.to_owned(), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_or_refused() {
        let mut added = AddedFiles::default();
        for line in ["directory /new/ /usr/share/a b", "file /x.js  /usr/share/x.js"] {
            assert_eq!(added.add_line(line), Some(Ok(())), "{line}");
        }
        assert_eq!(
            (&*added.directories[0].url, &*added.directories[0].path),
            ("/new/", Path::new("/usr/share/a b"))
        );
        assert_eq!((&*added.files[0].url, &*added.files[0].path), ("/x.js", Path::new("/usr/share/x.js")));
        for line in ["/new/ GET", "", "page /", "directory"] {
            assert_eq!(added.add_line(line), None, "{line}");
        }
        for line in [
            "directory /new /usr/a",
            "directory /new/",
            "directory x/ /usr/a",
            "file /x/ /usr/a",
            "file /x usr/a",
            "file /x /usr/../b",
            "directory /x/ /etc/keys",
            "file /x /usrlocal/x",
        ] {
            assert!(added.add_line(line).unwrap().is_err(), "{line}");
        }
        for line in ["directory /new/ /usr/b", "file /x.js /usr/share/x.js"] {
            assert!(added.add_line(line).unwrap().unwrap_err().ends_with("has a line already"), "{line}");
        }
        assert_eq!((added.directories.len(), added.files.len()), (1, 1));
    }

    #[test]
    fn an_url_of_the_profile_is_replaced() {
        let rule =
            |url: &str, path: &str| DirectoryRules { url: url.into(), path: path.into(), links: Vec::new() };
        let own = [rule("/a/", "/old"), rule("/b/", "/b")];
        let directories = vec![rule("/a/", "/new"), rule("/c/", "/c")];
        let added = AddedFiles { directories, files: Vec::new() };
        let paths: Vec<_> = added.with_directories(&own).map(|it| it.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/b", "/new", "/c"]);
    }
}
