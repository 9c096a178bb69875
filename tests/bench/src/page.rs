//! The page of the tables. Each Debian release that users have has one, because its peers and its OpenSSL differ.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Release, page, and the plot beside it.
const PAGES: &[(&str, &str, &str)] = &[
    ("debian-13", "performance.md", "growth.svg"),
    ("debian-12", "performance-debian-12.md", "growth-debian-12.svg"),
];
const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";

/// The system that the bench runs on.
pub(crate) struct Release {
    /// such as `debian-13`
    pub id: String,
    /// such as `Debian GNU/Linux 13 (trixie)`
    pub name: String,
}

impl Release {
    pub(crate) fn running() -> Result<Self> {
        let text = std::fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
        Ok(Self::from_os_release(&text))
    }

    fn from_os_release(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or("unknown").trim_matches('"')
        };
        Self { id: format!("{}-{}", value("ID"), value("VERSION_ID")), name: value("PRETTY_NAME").to_owned() }
    }
}

/// A page with marks around its tables.
pub(crate) struct Page {
    path: PathBuf,
    plot: &'static str,
}

impl Page {
    /// The page of `release` in `folder`. Fails before a long run does, if there is none.
    pub(crate) fn find(folder: &Path, release: &Release) -> Result<Self> {
        let (_, file, plot) = PAGES
            .iter()
            .find(|(id, ..)| *id == release.id)
            .with_context(|| format!("no page has figures of {}; leave out --write", release.id))?;
        let page = Self { path: folder.join(file), plot };
        page.parts()?;
        Ok(page)
    }

    /// The text before the tables, and behind them.
    fn parts(&self) -> Result<(String, String)> {
        let text = std::fs::read_to_string(&self.path).with_context(|| self.path.display().to_string())?;
        let (head, rest) = text.split_once(BEGIN).context("the mark for the tables is missing")?;
        let (_, tail) = rest.split_once(END).context("the mark behind the tables is missing")?;
        Ok((head.to_owned(), tail.to_owned()))
    }

    /// Puts the tables between the marks, and the plot, if there is one, behind the tables.
    pub(crate) fn write(&self, tables: &str, plot: Option<&str>) -> Result<()> {
        let (head, tail) = self.parts()?;
        let mut image = String::new();
        if let Some(plot) = plot {
            std::fs::write(self.path.with_file_name(self.plot), plot)?;
            image = format!("\n![requests a second by the number of connections]({})\n", self.plot);
        }
        std::fs::write(&self.path, format!("{head}{BEGIN}\n{tables}{image}{END}{tail}"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIXIE: &str = "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\nDEBIAN_VERSION_FULL=13.2\nID=debian\n";

    #[test]
    fn the_release_is_that_of_os_release() {
        let release = Release::from_os_release(TRIXIE);
        assert_eq!(
            (release.id.as_str(), release.name.as_str()),
            ("debian-13", "Debian GNU/Linux 13 (trixie)")
        );
    }

    #[test]
    fn tables_go_to_the_page_of_their_release() {
        let folder = tempfile::tempdir().unwrap();
        for (_, file, _) in PAGES {
            std::fs::write(folder.path().join(file), format!("a\n{BEGIN}\nold\n{END}\nz\n")).unwrap();
        }
        let page = Page::find(folder.path(), &Release::from_os_release(TRIXIE)).unwrap();
        page.write("| new |\n", Some("<svg/>")).unwrap();
        let read = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();
        let image = "![requests a second by the number of connections](growth.svg)";
        assert_eq!(read("performance.md"), format!("a\n{BEGIN}\n| new |\n\n{image}\n{END}\nz\n"));
        assert_eq!(read("growth.svg"), "<svg/>");
        assert!(read("performance-debian-12.md").contains("old"));
    }

    #[test]
    fn another_system_has_no_page() {
        let release = Release::from_os_release("ID=ubuntu\nVERSION_ID=\"24.04\"\n");
        let error = Page::find(Path::new("docs"), &release).err().unwrap().to_string();
        assert!(error.contains("ubuntu-24.04"), "{error}");
    }
}
