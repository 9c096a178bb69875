//! Problems of the settings, with file, line and key.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A part of the warning about a value that another one overrides.
pub(super) const OVERRIDDEN: &str = "is overridden by";

/// The origin of a value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ValueOrigin {
    /// the profile, or the default that every profile starts from
    #[default]
    Profile,
    /// a file, with the line if the format has lines
    File { path: PathBuf, line: Option<usize> },
    /// an environment variable
    Environment(String),
    /// `--set` on the command line
    CommandLine,
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueOrigin::Profile => f.write_str("profile"),
            ValueOrigin::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            ValueOrigin::File { path, line: None } => write!(f, "{}", path.display()),
            ValueOrigin::Environment(name) => write!(f, "environment {name}"),
            ValueOrigin::CommandLine => f.write_str("--set"),
        }
    }
}

/// Whether nodegate can serve in spite of a problem.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    Error,
    Warning,
}

/// An error, or a warning for the admin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub origin: ValueOrigin,
    /// the key as its origin spells it; empty if the problem is the file itself
    pub key: String,
    pub message: String,
}

impl Diagnostic {
    pub fn error(origin: ValueOrigin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, origin, key: key.into(), message: message.into() }
    }

    pub fn warning(origin: ValueOrigin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::error(origin, key, message).into_warning()
    }

    /// Whether it is about a value in a file that another value overrides.
    pub fn is_of_overridden_value(&self) -> bool {
        self.message.contains(OVERRIDDEN)
    }

    /// A problem with a file that no setting names.
    pub fn file_error(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::error(ValueOrigin::File { path: path.into(), line: None }, "", message)
    }

    /// A problem with a file whose message may begin with that file and a line.
    pub fn at_its_file(path: &Path, message: &str) -> Self {
        let rest = message.strip_prefix(&*path.to_string_lossy());
        if let Some(text) = rest.and_then(|rest| rest.strip_prefix(' ')) {
            return Self::file_error(path, text);
        }
        let rest = rest.and_then(|rest| rest.strip_prefix(':'));
        let Some((place, text)) = rest.and_then(|rest| rest.split_once(' ')) else {
            return Self::file_error(path, message);
        };
        match place.strip_suffix(':').map(str::parse) {
            Some(Ok(line)) => {
                Self::error(ValueOrigin::File { path: path.to_owned(), line: Some(line) }, "", text)
            }
            Some(Err(_)) => Self::file_error(path, message),
            None => Self::file_error(path, text),
        }
    }

    /// A problem with a product, whose message may begin with the key.
    pub fn of_product(message: String) -> Self {
        match message.split_once(": ") {
            Some((key, rest)) if key.starts_with("product.") && !key.contains(' ') => {
                Self::error(ValueOrigin::Profile, key, rest)
            }
            Some(_) | None => Self::error(ValueOrigin::Profile, "product", message),
        }
    }

    #[must_use]
    pub fn into_warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The text for readers who know the severity.
    pub fn text(&self) -> String {
        Self { severity: Severity::Error, ..self.clone() }.to_string()
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)
    }
}

/// `{"file":…,"line":…,"key":…,"message":…}` as `nodegate check --json` prints it.
impl Serialize for Diagnostic {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let (file, line) = self.origin.place();
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("file", &file)?;
        map.serialize_entry("line", &line)?;
        map.serialize_entry("key", &self.key)?;
        map.serialize_entry("message", &self.message)?;
        map.end()
    }
}

/// A value, and the problems that were found on the way to it.
pub struct Diagnosed<T> {
    pub value: T,
    pub problems: Vec<Diagnostic>,
}

impl<T> Diagnosed<T> {
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Diagnosed<U> {
        Diagnosed { value: change(self.value), problems: self.problems }
    }
}

impl ValueOrigin {
    /// File and line, for machines.
    pub fn place(&self) -> (Option<String>, Option<usize>) {
        match self {
            ValueOrigin::File { path, line } => (Some(path.display().to_string()), *line),
            ValueOrigin::Profile | ValueOrigin::Environment(_) | ValueOrigin::CommandLine => (None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_names_its_key_twice() {
        for (message, shown) in [
            ("product.api.prefix: 'x' is wrong", "profile: product.api.prefix: 'x' is wrong"),
            ("product.auth.ticket X: key: no", "profile: product: product.auth.ticket X: key: no"),
            ("no: colon", "profile: product: no: colon"),
        ] {
            assert_eq!(Diagnostic::of_product(message.to_owned()).to_string(), shown);
        }
    }

    #[test]
    fn no_line_names_its_file_twice() {
        let path = Path::new("/a b/c.pem");
        for (message, shown) in [
            ("/a b/c.pem: holds no key", "/a b/c.pem: holds no key"),
            ("/a b/c.pem:12: is cut off", "/a b/c.pem:12: is cut off"),
            ("/a b/c.pem.old: is cut off", "/a b/c.pem: /a b/c.pem.old: is cut off"),
            ("/a b/c.key: holds no key", "/a b/c.pem: /a b/c.key: holds no key"),
            ("is missing", "/a b/c.pem: is missing"),
            ("/a b/c.pem is missing", "/a b/c.pem: is missing"),
        ] {
            assert_eq!(Diagnostic::at_its_file(path, message).to_string(), shown);
        }
        let origin = ValueOrigin::File { path: path.to_owned(), line: Some(12) };
        assert_eq!(Diagnostic::at_its_file(path, "/a b/c.pem:12: x").origin, origin);
    }
}
