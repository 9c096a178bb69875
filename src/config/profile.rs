//! A profile and its route table, as files or built in.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::DeTable;

use super::{built_in_file, built_in_profile, built_in_profiles, profile_of_daemon};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::layers::{self, SettingsLayers};
use crate::config::product::Product;
use crate::config::product_keys;

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
pub(super) fn read_profile(text: &str, path: Option<&Path>) -> Result<(Product, SettingsLayers), Diagnostic> {
    let file = path.map_or_else(|| PathBuf::from("built-in profile"), Path::to_path_buf);
    let origin = |span: Option<Range<usize>>| {
        let line = span.map(|span| layers::line_at(text, span.start));
        ValueOrigin::File { path: file.clone(), line }
    };
    let problem =
        |error: &toml::de::Error| Diagnostic::error(origin(error.span()), "product", error.message());
    let mut table = DeTable::parse(text).map_err(|error| problem(&error))?;
    let Some(mut product) = table.get_mut().remove("product") else {
        return Err(Diagnostic::file_error(file.clone(), "has no [product] table"));
    };
    let deprecated = product_keys::replace_deprecated(product.get_mut(), |span| origin(Some(span)));
    let deserializer = toml::de::ValueDeserializer::from(product);
    let product = Product::deserialize(deserializer).map_err(|error| problem(&error))?;
    let mut layers = SettingsLayers::new(table.get_ref(), text, path);
    layers.problems.extend(deprecated);
    Ok((product, layers))
}
