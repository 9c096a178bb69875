//! A profile and its route table, as files or built in.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, ValueDeserializer};

use super::{built_in_file, built_in_profile, built_in_profiles, profile_of_daemon};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::layers::{self, SettingsLayers};
use crate::config::product::Product;
use crate::config::{product_fields, product_keys};

/// A profile or a route table.
pub(super) struct FileText {
    pub(super) text: String,
    /// `None` if it is built in
    pub(super) path: Option<PathBuf>,
}

pub(super) fn profile_text(profile: &str) -> Result<FileText, Diagnostic> {
    if let Some(text) = built_in_profile(profile) {
        return Ok(FileText { text: text.to_owned(), path: None });
    }
    let path = Path::new(profile);
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(FileText { text, path: Some(path.to_path_buf()) }),
        Err(_) if !profile.contains(['/', '.']) => Err(Diagnostic::file_error(
            path,
            format!(
                "no such profile{}; the built-in ones are {}, or give the path of a .toml file",
                likely_profile(profile).map(|name| format!(", did you mean {name}?")).unwrap_or_default(),
                built_in_profiles().join(", ")
            ),
        )),
        Err(error) => Err(Diagnostic::file_error(path, format!("cannot be read: {error}"))),
    }
}

/// The built-in profile that was probably meant: its name, or that of its daemon, is spelled similarly.
fn likely_profile(wrong: &str) -> Option<String> {
    let likeness = |name: &String| strsim::jaro_winkler(name, &wrong.to_lowercase());
    profile_of_daemon(wrong).or_else(|| {
        let names = built_in_profiles().into_iter().filter(|name| likeness(name) > 0.7);
        names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
    })
}

/// A route table lies beside its profile. Your own profile may name a built-in table.
pub(super) fn route_table(product: &Product, profile: Option<&Path>) -> Result<Option<FileText>, Diagnostic> {
    let Some(name) = &product.routes else { return Ok(None) };
    let beside = profile.and_then(Path::parent).map(|folder| folder.join(name)).filter(|path| path.exists());
    if let Some(path) = beside {
        let unreadable = |error| Diagnostic::file_error(&path, format!("cannot be read: {error}"));
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        return Ok(Some(FileText { text, path: Some(path) }));
    }
    match name.to_str().and_then(built_in_file) {
        Some(text) => Ok(Some(FileText { text: text.to_owned(), path: None })),
        None => Err(Diagnostic::error(
            ValueOrigin::Profile,
            "product.routes",
            format!("no file {}", name.display()),
        )),
    }
}

/// Splits a profile into its `[product]` part and its settings.
///
/// # Errors
/// All mistakes of the part, and those of the settings.
pub(super) fn read_profile(
    text: &str,
    path: Option<&Path>,
) -> Result<(Product, SettingsLayers), Vec<Diagnostic>> {
    let file = path.map_or_else(|| PathBuf::from("built-in profile"), Path::to_path_buf);
    let origin =
        |place: usize| ValueOrigin::File { path: file.clone(), line: Some(layers::line_at(text, place)) };
    let problem = |key: String, error: &toml::de::Error| {
        let place = error.span().map(|span: Range<usize>| origin(span.start));
        let whole = || ValueOrigin::File { path: file.clone(), line: None };
        Diagnostic::error(place.unwrap_or_else(whole), key, error.message())
    };
    let mut table = DeTable::parse(text).map_err(|error| vec![problem(String::new(), &error)])?;
    let Some(mut product) = table.get_mut().remove("product") else {
        let missing = format!("has no [product] table; it needs {}", product_fields::needed());
        return Err(vec![Diagnostic::file_error(file.clone(), missing)]);
    };
    let mut layers = SettingsLayers::new(table.get_ref(), text, path);
    layers.problems.extend(product_keys::replace_deprecated(product.get_mut(), |span| origin(span.start)));
    let mistakes = product_fields::verify(&product, &origin);
    if mistakes.is_empty() {
        match Product::deserialize(ValueDeserializer::from(product.clone())) {
            Ok(mut product) => {
                if let Some(dump) = &mut product.dump {
                    dump.folder = path.and_then(Path::parent).map(Path::to_owned);
                }
                return Ok((product, layers));
            }
            Err(error) => {
                let wrong = wrong_values(&product);
                if wrong.is_empty() {
                    layers.problems.push(problem("product".to_owned(), &error));
                }
                layers.problems.extend(wrong.into_iter().map(|(key, error)| problem(key, &error)));
            }
        }
    }
    layers.problems.extend(mistakes);
    Err(layers.problems)
}

/// A part that loads, to which each key of another part is added.
const SMALLEST_PRODUCT: &str = "name = ''\ndaemon = ''\nprotocol = 'https'\nserver = ''\n";

/// The mistakes that serde finds in the values of the part, one for each of its keys: serde ends at the first one.
fn wrong_values(product: &Spanned<DeValue<'_>>) -> Vec<(String, toml::de::Error)> {
    let (Some(table), Ok(smallest)) = (product.get_ref().as_table(), DeTable::parse(SMALLEST_PRODUCT)) else {
        return Vec::new();
    };
    let error = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
        let mut part = smallest.get_ref().clone();
        part.insert(name.clone(), value.clone());
        let part = Spanned::new(product.span(), DeValue::Table(part));
        let error = Product::deserialize(ValueDeserializer::from(part)).err()?;
        Some((format!("product.{}", name.get_ref()), error))
    };
    table.iter().filter_map(error).collect()
}

/// Problems with a profile name its file, if it is no built-in one.
pub fn name_the_profile(file: Option<&Path>, problems: &mut [Diagnostic]) {
    let Some(file) = file else { return };
    for problem in problems.iter_mut().filter(|problem| problem.origin == ValueOrigin::Profile) {
        problem.origin = ValueOrigin::File { path: file.to_path_buf(), line: None };
    }
}
