//! A setting is one row: its key, its other names, its type, its default, its documentation, and the field it sets.

use std::path::PathBuf;
use std::time::Duration;

use super::root::RootDirectory;
use super::settings::BackendAddress;
use crate::config::diagnostic::ValueOrigin;
use crate::net::acl::AddressList;
use crate::net::ip_range;

/// The form of a setting's value, the same in every layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ValueKind {
    /// any text
    Text,
    /// text with commas, or an array of texts
    List,
    /// `0`, `1`, `false`, `true`; in the product's own file `0` and `1` only
    Bool,
    /// a whole number between the two, both included
    Number(u64, u64),
    /// seconds with at most three decimals, between the two numbers of milliseconds, both included
    Milliseconds(u64, u64),
}

pub(super) const SECONDS: ValueKind = ValueKind::Number(1, 86_400);
pub(super) const SECONDS_OR_OFF: ValueKind = ValueKind::Number(0, 86_400);
pub(super) const PORT: ValueKind = ValueKind::Number(1, 65_535);
pub(super) const PORT_OR_ANY: ValueKind = ValueKind::Number(0, 65_535);
/// Connections, requests or failures.
pub(super) const COUNT: ValueKind = ValueKind::Number(0, 1 << 20);

/// Messages about a value, one for each mistake.
pub(super) type ReadResult = Result<(), Vec<String>>;

/// One setting that sets a field of `T`.
pub struct Setting<T: 'static> {
    pub key: &'static str,
    /// the key of earlier releases, which this release still reads
    pub deprecated: Option<&'static str>,
    /// the name in the product's own file in `/etc/default`
    pub legacy: Option<&'static str>,
    /// for a key of a `[[listener]]` table: the setting that gives the value if the table has none
    pub inherits: Option<&'static str>,
    pub kind: ValueKind,
    pub default: &'static str,
    /// one line about the value
    pub documentation: &'static str,
    /// whether a wrong value is only a warning
    pub is_lenient: bool,
    read: fn(&mut T, &ValueText<'_>) -> ReadResult,
}

impl<T> Setting<T> {
    pub(super) const fn new(
        key: &'static str,
        default: &'static str,
        kind: ValueKind,
        read: fn(&mut T, &ValueText<'_>) -> ReadResult,
    ) -> Self {
        let (deprecated, legacy, inherits) = (None, None, None);
        Self { key, deprecated, legacy, inherits, kind, default, documentation: "", is_lenient: false, read }
    }

    pub(super) const fn doc(self, documentation: &'static str) -> Self {
        Self { documentation, ..self }
    }

    pub(super) const fn renamed_from(self, deprecated: &'static str) -> Self {
        Self { deprecated: Some(deprecated), ..self }
    }

    pub(super) const fn legacy(self, name: &'static str) -> Self {
        Self { legacy: Some(name), ..self }
    }

    pub(super) const fn inherits(self, setting: &'static str) -> Self {
        Self { inherits: Some(setting), ..self }
    }

    pub(super) const fn lenient(self) -> Self {
        Self { is_lenient: true, ..self }
    }

    /// Whether this is the key or its deprecated name.
    pub fn is_named(&self, name: &str) -> bool {
        self.key == name || self.deprecated == Some(name)
    }

    /// Sets the field. An invalid value leaves the default.
    pub(super) fn apply(&self, target: &mut T, text: &str, root: &RootDirectory) -> Vec<String> {
        let mut read = |text| (self.read)(target, &ValueText { text, kind: self.kind, root });
        // An empty default may be invalid: a required key has none.
        let _ = read(self.default);
        read(text).err().unwrap_or_default()
    }

    /// The key as the file spells it: the product's own file has other names.
    pub fn written(&self, origin: &ValueOrigin) -> String {
        match (origin, self.legacy) {
            (ValueOrigin::File { path, .. }, Some(legacy))
                if path.extension().is_none_or(|end| end != "toml") =>
            {
                format!("{legacy} ({})", self.key)
            }
            _ => self.key.to_owned(),
        }
    }
}

/// The row whose key is most like `wrong`, for a hint.
pub(super) fn most_like<T: 'static>(
    rows: impl Iterator<Item = &'static Setting<T>>,
    name: impl Fn(&Setting<T>) -> Option<&'static str>,
    wrong: &str,
) -> Option<&'static str> {
    most_like_name(rows.filter_map(name), wrong)
}

/// The name that is most like `wrong`, for a hint.
pub(super) fn most_like_name(names: impl Iterator<Item = &'static str>, wrong: &str) -> Option<&'static str> {
    names
        .map(|name| (strsim::jaro_winkler(name, wrong), name))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The value that replaces a deprecated one: key, deprecated value, new value.
const RENAMED_VALUES: &[(&str, &str, &str)] = &[("log.format", "classic", "text")];

/// The new name of a deprecated value.
pub(super) fn renamed_value(key: &str, text: &str) -> Option<&'static str> {
    RENAMED_VALUES.iter().find(|(name, old, _)| *name == key && *old == text).map(|(.., new)| *new)
}

/// The text of a value that a row reads into its field.
pub struct ValueText<'a> {
    text: &'a str,
    kind: ValueKind,
    root: &'a RootDirectory,
}

impl ValueText<'_> {
    fn bounds(&self) -> (u64, u64) {
        match self.kind {
            ValueKind::Number(least, most) | ValueKind::Milliseconds(least, most) => (least, most),
            ValueKind::Text | ValueKind::List | ValueKind::Bool => (0, u64::MAX),
        }
    }

    pub(super) fn parsed<V>(
        &self,
        field: &mut V,
        parse: impl FnOnce(&str) -> Result<V, String>,
    ) -> ReadResult {
        *field = parse(self.text).map_err(|message| vec![message])?;
        Ok(())
    }

    /// An empty text is `None`.
    pub(super) fn optional<V>(
        &self,
        field: &mut Option<V>,
        parse: impl FnOnce(&str) -> Result<V, String>,
    ) -> ReadResult {
        self.parsed(field, |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) })
    }

    pub(super) fn text(&self, field: &mut String) -> ReadResult {
        self.parsed(field, |text| Ok(text.to_owned()))
    }

    pub(super) fn truth(&self, field: &mut bool) -> ReadResult {
        self.parsed(field, truth)
    }

    pub(super) fn number<V: TryFrom<u64>>(&self, field: &mut V) -> ReadResult {
        let (least, most) = self.bounds();
        self.parsed(field, |text| match text.trim().parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => {
                V::try_from(number).map_err(|_| format!("{number} is too large"))
            }
            _ => Err(format!("must be a whole number from {least} to {most}, not '{text}'")),
        })
    }

    pub(super) fn seconds(&self, field: &mut Duration) -> ReadResult {
        let mut seconds = 0;
        self.number(&mut seconds)?;
        *field = Duration::from_secs(seconds);
        Ok(())
    }

    /// Seconds that may have decimals.
    pub(super) fn decimal_seconds(&self, field: &mut Duration) -> ReadResult {
        let (least, most) = self.bounds();
        self.parsed(field, |text| match milliseconds(text.trim()) {
            Some(number) if (least..=most).contains(&number) => Ok(Duration::from_millis(number)),
            _ => Err(format!(
                "must be a number from {} to {} with at most three decimals, not '{text}'",
                seconds_text(least),
                seconds_text(most)
            )),
        })
    }

    /// 0 is `None`.
    pub(super) fn number_or_off(&self, field: &mut Option<u64>) -> ReadResult {
        let mut number = 0;
        self.number(&mut number)?;
        *field = Some(number).filter(|number| *number > 0);
        Ok(())
    }

    /// 0 is `None`.
    pub(super) fn seconds_or_off(&self, field: &mut Option<Duration>) -> ReadResult {
        let mut seconds = None;
        self.number_or_off(&mut seconds)?;
        *field = seconds.map(Duration::from_secs);
        Ok(())
    }

    pub(super) fn path(&self, field: &mut Option<PathBuf>) -> ReadResult {
        self.optional(field, |text| self.absolute(text))
    }

    pub(super) fn paths(&self, field: &mut Vec<PathBuf>) -> ReadResult {
        self.parsed(field, |text| {
            let paths = text.split(',').map(str::trim).filter(|path| !path.is_empty());
            paths.map(|path| self.absolute(path)).collect()
        })
    }

    pub(super) fn backend(&self, field: &mut BackendAddress) -> ReadResult {
        self.parsed(field, |text| BackendAddress::parse(text, self.root))
    }

    pub(super) fn optional_backend(&self, field: &mut Option<BackendAddress>) -> ReadResult {
        self.optional(field, |text| BackendAddress::parse(text, self.root))
    }

    /// Keeps the valid entries, and returns a message for each other one.
    pub(super) fn addresses(&self, field: &mut AddressList) -> ReadResult {
        let (entries, errors) = ip_range::parse_list(self.text);
        *field = AddressList::new(entries);
        if errors.is_empty() { Ok(()) } else { Err(errors.iter().map(ToString::to_string).collect()) }
    }

    /// A blank text is `None`.
    pub(super) fn optional_addresses(&self, field: &mut Option<AddressList>) -> ReadResult {
        let mut list = AddressList::default();
        let read = self.addresses(&mut list);
        *field = (!self.text.trim().is_empty()).then_some(list);
        read
    }

    fn absolute(&self, text: &str) -> Result<PathBuf, String> {
        if text.starts_with('/') {
            Ok(self.root.path(text))
        } else {
            Err(format!("'{text}' is not an absolute path"))
        }
    }
}

/// The milliseconds of seconds such as `0.5`.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !are_digits(whole) || !are_digits(decimals) || decimals.len() > 3 {
        return None;
    }
    let decimals: u64 = format!("{decimals:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(decimals)
}

/// Milliseconds as seconds, without trailing zeros.
pub fn seconds_text(milliseconds: u64) -> String {
    let text = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(format!("must be 0, 1, false or true, not '{text}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_at_most_three_decimals() {
        let cases = [
            ("0.5", Some(500)),
            ("1", Some(1000)),
            ("2.050", Some(2050)),
            ("0.001", Some(1)),
            ("0.0001", None),
            (".5", None),
            ("1.", None),
            ("1e3", None),
            ("-1", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
        for (number, text) in [(500, "0.5"), (3_600_000, "3600"), (1, "0.001"), (0, "0")] {
            assert_eq!(seconds_text(number), text);
        }
    }
}
