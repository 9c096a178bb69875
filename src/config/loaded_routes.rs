//! The route table in use: the profile's, or the file that `routes.file` names.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::layers::ResolvedValue;
use super::product::Product;
use super::profile::FileText;
use crate::config::diagnostic::{Diagnosed, Diagnostic, ValueOrigin};
use crate::config::route_table::{RouteTable, TableProblem};

pub(super) const SETTING: &str = "routes.file";
const PROFILE_KEY: &str = "product.routes";
/// The tables of the products have less than 20 kB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The origin of the table in use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RouteSource {
    /// the profile names none
    Absent,
    BuiltIn,
    /// a file beside the profile
    Profile(PathBuf),
    /// the file of `routes.file`
    Setting(PathBuf),
}

/// The table in use.
#[derive(Debug)]
pub struct LoadedRoutes {
    pub table: Arc<RouteTable>,
    pub source: RouteSource,
    text: String,
}

impl LoadedRoutes {
    /// The file of the setting, or `own`, the table of the profile. A file that cannot be used is an error, and no
    /// reason to use the table of the profile: a reload keeps the previous table.
    pub(super) fn load(
        own: Option<FileText>,
        file: Option<&Path>,
        setting: &ResolvedValue,
    ) -> Diagnosed<Self> {
        let Some(file) = file else {
            let source = match &own {
                None => RouteSource::Absent,
                Some(FileText { path: None, .. }) => RouteSource::BuiltIn,
                Some(FileText { path: Some(path), .. }) => RouteSource::Profile(path.clone()),
            };
            return Self::parse(own.map(|own| own.text).unwrap_or_default(), source, &setting.origin);
        };
        let source = RouteSource::Setting(file.to_owned());
        match read(file) {
            Ok(text) => Self::parse(text, source, &setting.origin),
            Err(error) => {
                let message = format!("{} cannot be read: {error}", file.display());
                let problem = Diagnostic::error(setting.origin.clone(), SETTING, message);
                let (table, text) = (Arc::default(), String::new());
                Diagnosed { value: Self { table, source, text }, problems: vec![problem] }
            }
        }
    }

    fn parse(text: String, source: RouteSource, setting: &ValueOrigin) -> Diagnosed<Self> {
        let mut found = RouteTable::parse(&text);
        if matches!((&found, &source), (Ok(table), RouteSource::Setting(_)) if table.methods().len() == 0) {
            found = Err(vec![TableProblem { line: 1, message: "the file has no route".to_owned() }]);
        }
        let (table, problems) = match found {
            Ok(table) => (table, Vec::new()),
            Err(problems) => (RouteTable::default(), problems),
        };
        let problems = problems.into_iter().map(|problem| source.problem(problem, setting)).collect();
        Diagnosed { value: Self { table: Arc::new(table), source, text }, problems }
    }

    /// Whether the tables are equal, and the key that decides about this one or the other one if not.
    pub(super) fn changed_key(&self, before: &Self) -> Option<&'static str> {
        let is_set = |routes: &Self| matches!(routes.source, RouteSource::Setting(_));
        let key = if is_set(self) || is_set(before) { SETTING } else { PROFILE_KEY };
        (self.text != before.text).then_some(key)
    }

    /// The packages that the table was made from, each with its version.
    pub fn made_from<'a>(&'a self, product: &'a Product) -> &'a BTreeMap<String, String> {
        match self.source {
            RouteSource::Absent | RouteSource::BuiltIn => &product.doctor.packages,
            RouteSource::Profile(_) if self.table.made_from.is_empty() => &product.doctor.packages,
            RouteSource::Profile(_) | RouteSource::Setting(_) => &self.table.made_from,
        }
    }

    /// `679 methods, built in (the package and its version)`.
    pub fn describe(&self, product: &Product) -> String {
        let packages =
            self.made_from(product).iter().map(|(package, version)| format!("{package} {version}"));
        let packages: Vec<_> = packages.collect();
        let origin = match &self.source {
            RouteSource::Absent => return "no route table".to_owned(),
            RouteSource::BuiltIn => "built in".to_owned(),
            RouteSource::Profile(path) => path.display().to_string(),
            RouteSource::Setting(path) => format!("{} of {SETTING}", path.display()),
        };
        let packages =
            if packages.is_empty() { String::new() } else { format!(" ({})", packages.join(", ")) };
        let added = match self.table.added.len() {
            0 => String::new(),
            1 => "; adds 1 directory or file".to_owned(),
            count => format!("; adds {count} directories and files"),
        };
        format!("{} methods, {origin}{packages}{added}", self.table.methods().len())
    }
}

impl RouteSource {
    /// The file of the table, if it is not built in.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Absent | Self::BuiltIn => None,
            Self::Profile(path) | Self::Setting(path) => Some(path),
        }
    }

    fn problem(&self, problem: TableProblem, setting: &ValueOrigin) -> Diagnostic {
        let TableProblem { line, message } = problem;
        let key = if matches!(self, Self::Setting(_)) { SETTING } else { PROFILE_KEY };
        let message = match self {
            Self::Setting(_) => format!("{message} (the file is set by {setting})"),
            Self::Absent | Self::BuiltIn | Self::Profile(_) => message,
        };
        let origin = self.file().map_or(ValueOrigin::Profile, |path| ValueOrigin::File {
            path: path.to_owned(),
            line: Some(line),
        });
        Diagnostic::error(origin, key, message)
    }
}

/// As the reason of a route names it.
impl fmt::Display for RouteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no route table"),
            Self::BuiltIn => f.write_str("the built-in route table"),
            Self::Profile(path) | Self::Setting(path) => write!(f, "{}", path.display()),
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
        return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::root::RootDirectory;
    use crate::config::{Config, ConfigSources};

    fn load(directory: &tempfile::TempDir) -> Config {
        let sets = vec!["routes.file=/my.routes".to_owned()];
        let root = RootDirectory::new(directory.path().to_owned());
        Config::load("pve", &ConfigSources { root, sets }).unwrap()
    }

    fn problems(text: &[u8]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("my.routes"), text).unwrap();
        let found = load(&directory).problems;
        let path = directory.path().display().to_string();
        found.iter().map(|problem| problem.to_string().replace(&path, "")).collect()
    }

    #[test]
    fn a_good_file_replaces_the_profiles_table() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("my.routes"), "# made from a 1\n/x GET PUT:p\n").unwrap();
        let config = load(&directory);
        assert_eq!(config.problems, []);
        let path = directory.path().join("my.routes");
        let expected = format!("2 methods, {} of routes.file (a 1)", path.display());
        assert_eq!(config.routes.describe(&config.product), expected);
        assert!(config.files.contains(&path));
        let built_in = Config::load("pve", &ConfigSources::default()).unwrap();
        let expected = "679 methods, built in (pve-manager 9.2.11)";
        assert_eq!(built_in.routes.describe(&built_in.product), expected);
        assert_eq!(config.differences(&built_in), ["routes.file"]);
    }

    #[test]
    fn a_broken_file_is_named_with_its_lines() {
        let expected = [
            "/my.routes:1: routes.file: '/a' has no method (the file is set by --set)",
            "/my.routes:3: routes.file: 'GET:z': unknown flag 'z' (the file is set by --set)",
        ];
        assert_eq!(problems(b"/a\n/b GET\n/c GET:z\n"), expected);
        let expected = ["/my.routes:1: routes.file: the file has no route (the file is set by --set)"];
        assert_eq!(problems(b"# nothing\n"), expected);
        assert_eq!(
            problems(b"/a \xff"),
            ["--set: routes.file: /my.routes cannot be read: it is not UTF-8 text"]
        );
        let large = vec![b'#'; usize::try_from(MAX_FILE_BYTES).unwrap() + 1];
        assert!(problems(&large)[0].contains("cannot be read: it has more than"));
    }

    #[test]
    fn only_a_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("my.routes");
        let refused = || load(&directory).problems[0].message.clone();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refused().ends_with("cannot be read: it is not a file"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(refused().ends_with("cannot be read: it is not a file"));
    }

    /// Editors of other systems write a byte order mark and other ends of lines.
    #[test]
    fn files_of_other_editors_are_read() {
        assert_eq!(problems(b"\xef\xbb\xbf# made from a 1\r\n/a GET:p\r\n\r\n/b PUT\r\n"), [""; 0]);
    }

    #[test]
    fn a_missing_file_is_the_settings_error() {
        let directory = tempfile::tempdir().unwrap();
        let config = load(&directory);
        assert!(config.has_errors());
        assert_eq!(config.problems.len(), 1, "{:?}", config.problems);
        assert!(
            config.problems[0].message.ends_with("cannot be read: No such file or directory (os error 2)")
        );
    }
}
