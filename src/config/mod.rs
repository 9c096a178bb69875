//! Reads the configuration into types once: the profile, the layers of settings on top of it, and their problems.

pub mod added_files;
mod auth;
pub mod command_line;
mod compare;
pub mod diagnostic;
mod difference;
mod doctor;
mod dump;
pub mod grammar;
pub mod layers;
pub mod loaded_routes;
pub mod page;
pub mod product;
mod product_fields;
mod product_keys;
mod profile;
pub mod root;
pub mod route_scope;
pub mod route_table;
pub mod section_file;
pub mod setting;
pub mod settings;
pub mod shell;
mod validate;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use crate::config::diagnostic::{Diagnosed, Diagnostic, ValueOrigin};
pub use difference::ConfigDifference;
use layers::{ResolvedValue, SettingsLayers};
use loaded_routes::LoadedRoutes;
use product::{DirectoryRules, Product, SingleFile};
pub use profile::name_the_profile;
use profile::{FileText, profile_text, read_profile, route_table};
use root::RootDirectory;
use setting::Setting;
use settings::{LISTENER_ROWS, Settings};

/// The built-in profiles. A constant; `static`, so that the binary holds them once.
static PROFILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/profiles");

/// Settings of a package, such as the address of a daemon that it installs. Weaker than the product's own file.
const PACKAGE_SETTINGS: &str = "/usr/lib/nodegate";
/// The admin's settings. Stronger than the product's own file.
const SITE_SETTINGS: &str = "/etc/nodegate";

/// The sources of settings from the command line.
#[derive(Clone, Debug, Default)]
pub struct ConfigSources {
    /// directory that stands for `/`
    pub root: RootDirectory,
    /// `KEY=VALUE` each
    pub sets: Vec<String>,
}

/// A profile with every layer applied.
#[derive(Debug)]
pub struct Config {
    /// the profile
    pub product: Product,
    /// the settings in effect
    pub settings: Settings,
    /// directory that stands for `/`
    pub root: RootDirectory,
    /// `None` if the profile is built in
    pub profile_file: Option<PathBuf>,
    /// the route table in use
    pub routes: LoadedRoutes,
    /// the port of the profile without other layers
    pub own_port: u16,
    /// errors and warnings of all layers
    pub problems: Vec<Diagnostic>,
    /// all files that settings and routes are read from, whether they exist or not
    pub files: Vec<PathBuf>,
    /// each setting with its value in effect and its layer
    pub effective: Vec<(&'static str, ResolvedValue)>,
    /// the same for each `[[listener]]` table: `listener[1].port`
    pub listener_keys: Vec<(String, ResolvedValue)>,
    /// those of them that the tables have themselves; the others are inherited or defaults
    own_listener_keys: Vec<(String, ResolvedValue)>,
}

/// Names of the profiles inside the binary, sorted.
pub fn built_in_profiles() -> Vec<String> {
    let mut names: Vec<_> = PROFILES
        .files()
        .filter(|file| file.path().extension().is_some_and(|end| end == "toml"))
        .filter_map(|file| file.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// The text of a built-in profile.
pub fn built_in_profile(name: &str) -> Option<&'static str> {
    built_in_file(&format!("{name}.toml"))
}

/// The built-in profile that replaces that daemon.
pub fn profile_of_daemon(daemon: &str) -> Option<String> {
    let is_its = |text| read_profile(text, None).is_ok_and(|(product, _)| product.daemon == daemon);
    built_in_profiles().into_iter().find(|name| built_in_profile(name).is_some_and(is_its))
}

/// A file that lies beside the built-in profiles.
pub fn built_in_file(name: &str) -> Option<&'static str> {
    PROFILES.get_file(name)?.contents_utf8()
}

impl Config {
    /// Loads a built-in profile or a `.toml` file, and every layer above it. Fails only if the profile itself
    /// cannot be used; all that is wrong with settings is in `problems`.
    pub fn load(profile: &str, options: &ConfigSources) -> Result<Self, Vec<Diagnostic>> {
        let FileText { text, path } = profile_text(profile).map_err(|problem| vec![problem])?;
        let (product, mut layers) = read_profile(&text, path.as_deref())?;
        let own_routes = route_table(&product, path.as_deref()).map_err(|problem| vec![problem])?;
        let own_port = layers.find("listen.port").text.parse().unwrap_or_default();
        let root = &options.root;
        let settings_file = |directory: &str| root.path(format!("{directory}/{}.toml", product.name));
        let (package_file, site_file) = (settings_file(PACKAGE_SETTINGS), settings_file(SITE_SETTINGS));
        let legacy_file = product.legacy_file.as_ref().map(|legacy| root.path(legacy));
        layers.settings_file(&package_file);
        if let Some(legacy_file) = &legacy_file {
            layers.legacy_file(legacy_file, &site_file);
        }
        layers.worker_counts(&product.backend, root, legacy_file.as_deref());
        layers.settings_file(&site_file);
        layers.environment(std::env::vars_os());
        layers.command_line(&options.sets);
        let Diagnosed { value: settings, problems: more } = Settings::resolve(&layers, root);
        let mut problems = std::mem::take(&mut layers.problems);
        problems.extend(layers.overridden(&package_file));
        problems.extend(more);
        let setting = layers.find(loaded_routes::SETTING);
        let Diagnosed { value: routes, problems: more } =
            LoadedRoutes::load(own_routes, settings.routes_file.as_deref(), &setting);
        problems.extend(more);
        problems.extend(validate::settings_problems(&settings, &layers));
        problems.extend(validate::product_problems(&product));
        problems.extend(validate::out_of_place(&product, &settings, &layers));
        problems.extend(validate::probes_in_api(&product, &settings, &layers));
        problems.extend(validate::listener_problems(&product, &settings, &layers));
        let profile_file = path.clone();
        if profile_file.is_some() {
            layers.name_lines(&mut problems);
        }
        name_the_profile(profile_file.as_deref(), &mut problems);
        let table_file = routes.source.file().map(Path::to_owned);
        let files = [path, table_file, Some(package_file), legacy_file, Some(site_file)];
        let counts = [&product.backend.workers, &product.backend.unprivileged_workers];
        let counts = counts.into_iter().flatten().map(|source| root.path(&source.file));
        let mut files: Vec<_> = files.into_iter().flatten().chain(counts).collect();
        let mut seen = HashSet::new();
        files.retain(|file| seen.insert(file.clone()));
        let effective = settings::rows().map(|row| (row.key, effective(row, &layers, &settings))).collect();
        let root = root.clone();
        let (listener_keys, own_listener_keys) = (listener_keys(&layers), own_listener_keys(&layers));
        Ok(Self {
            product,
            settings,
            root,
            profile_file,
            routes,
            own_port,
            problems,
            files,
            effective,
            listener_keys,
            own_listener_keys,
        })
    }

    /// The directories to serve: those of the profile, and those that the route table adds.
    pub fn directories(&self) -> impl Iterator<Item = &DirectoryRules> {
        self.routes.table.added.with_directories(&self.product.directory)
    }

    /// The single files to serve, like `directories`.
    pub fn single_files(&self) -> impl Iterator<Item = &SingleFile> {
        self.routes.table.added.with_files(&self.product.file)
    }

    /// The layer that gave a setting its value.
    pub fn origin(&self, key: &str) -> ValueOrigin {
        let found = self.effective.iter().find(|(name, _)| *name == key);
        found.map_or(ValueOrigin::Profile, |(_, found)| found.origin.clone())
    }

    /// The setting that a key of a listener, such as `allow_from`, has its value from, and the layer that gave it.
    /// `[listen]` is number 0, and has the `listen.`, `acl.` and `tls.` settings.
    pub fn listener_setting(&self, number: usize, key: &str) -> (String, ValueOrigin) {
        let row = LISTENER_ROWS.iter().find(|row| row.key == key);
        let inherited = row.and_then(|row| row.inherits);
        let inherited = inherited.map(|setting| (setting.to_owned(), self.origin(setting)));
        let own = layers::written(number, key);
        let own = self.listener_keys.iter().find(|(known, _)| *known == own);
        let own = own.map(|(key, found)| (key.clone(), found.origin.clone()));
        match (own, inherited) {
            (Some((_, origin)), Some(inherited)) if origin == inherited.1 => inherited,
            (Some(own), _) => own,
            (None, Some(inherited)) => inherited,
            (None, None) => {
                let setting = format!("listen.{key}");
                let origin = self.origin(&setting);
                (setting, origin)
            }
        }
    }

    /// A problem with the `address` or the `port` of a listener, by its number.
    pub fn listener_problem(&self, number: usize, key: &str, message: String) -> Diagnostic {
        let (key, origin) = self.listener_setting(number, key);
        Diagnostic::error(origin, key, message)
    }

    /// Whether the start gave it another port than the product's own. The files are not enough to tell: they may
    /// change the port with any reload.
    pub fn is_trial(&self) -> bool {
        match self.origin("listen.port") {
            ValueOrigin::CommandLine | ValueOrigin::Environment(_) => {
                self.settings.listen.port != self.own_port
            }
            ValueOrigin::Profile | ValueOrigin::File { .. } => false,
        }
    }

    /// Whether another process probably serves the ports and addresses that the files name: a trial on a port of its
    /// own. Port 0 takes what is free, so nothing can collide.
    pub fn is_beside_another(&self) -> bool {
        self.is_trial() && self.settings.listen.port > 0
    }

    /// Whether a problem is an error.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(Diagnostic::is_error)
    }
}

/// The value in effect, which may differ from the text of the setting.
fn effective(row: &Setting<Settings>, layers: &SettingsLayers, settings: &Settings) -> ResolvedValue {
    let found = layers.find(row.key);
    match row.key {
        "listen.address" if found.text.trim().is_empty() => {
            ResolvedValue { text: row.default.to_owned(), ..found }
        }
        "node.name" => ResolvedValue { text: settings.node_name.clone(), ..found },
        "workers" if found.text.trim() != settings.workers.to_string() => {
            ResolvedValue { text: settings.workers.to_string(), origin: ValueOrigin::Profile }
        }
        _ => found,
    }
}

fn listener_keys(layers: &SettingsLayers) -> Vec<(String, ResolvedValue)> {
    let mut all = Vec::new();
    for (index, table) in layers.listeners.iter().enumerate() {
        let rows = LISTENER_ROWS.iter();
        all.extend(rows.map(|row| (layers::written(index + 1, row.key), table.find(row, layers))));
    }
    all
}

fn own_listener_keys(layers: &SettingsLayers) -> Vec<(String, ResolvedValue)> {
    let tables = layers.listeners.iter().enumerate();
    let all = tables.flat_map(|(index, table)| {
        table.all_given().map(move |(key, found)| (layers::written(index + 1, key), found.clone()))
    });
    all.collect()
}
