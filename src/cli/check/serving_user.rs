//! Whether the serving user can read the files that are read again later. Root reads them once at the start, the
//! serving user at each reload and renewal, and some of them all the time.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::page::VariableSource;
use crate::config::product::Product;
use crate::os::other_user::{OtherUser, is_public};
use crate::tls::certificate_files;
use crate::upstream::nodes::NodeFile;

/// The consequence of an unreadable file.
#[derive(Clone, Copy)]
enum FileUse {
    Settings,
    /// keys, secrets and lists that are read while serving
    Requests,
    Page,
    /// the list of realms of a listener with a route scope
    Realms,
    /// another node's certificate
    Node,
    /// certificates and keys
    Tls,
    /// values of a page
    Values,
    /// a file that browsers load
    Static,
    /// a certificate that is not served now, or an OCSP response
    Spare,
}

impl FileUse {
    /// The consequence, and whether it is an error or a warning.
    fn consequence(self) -> (&'static str, Severity) {
        match self {
            Self::Settings => ("a reload is refused", Severity::Error),
            Self::Requests => ("requests fail within a minute of the start", Severity::Error),
            Self::Page => ("the page cannot be rendered", Severity::Error),
            Self::Realms => (
                "logins at a listener with a route scope fail unless the user name ends in the realm",
                Severity::Error,
            ),
            Self::Node => ("requests to this node fail", Severity::Error),
            Self::Tls => ("a reload is refused, and a renewed file is not served", Severity::Error),
            Self::Values => ("pages are rendered without the values in it", Severity::Warning),
            Self::Static => ("browsers cannot load it", Severity::Warning),
            Self::Spare => ("it will not be served", Severity::Warning),
        }
    }
}

/// `served` are the certificates in use. None with `--root`, which ignores the setting `user`.
pub(crate) fn problems(config: &Config, served: &[PathBuf]) -> Vec<Diagnostic> {
    let public =
        certificate_files::key_files(config).into_iter().filter(|path| is_public(path)).map(|path| {
            let message =
                "every user of this machine can read this private key: remove the permission with chmod o-r";
            Diagnostic::file_error(path, message).into_warning()
        });
    let unreadable = unreadable(config, served);
    unreadable.into_iter().chain(public).collect()
}

fn unreadable(config: &Config, served: &[PathBuf]) -> Vec<Diagnostic> {
    let Some(user) = OtherUser::find(&config.settings.user).filter(|_| config.root.is_system()) else {
        return Vec::new();
    };
    let files = files(config, served);
    let paths: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
    let unreadable = user.unreadable(&paths).into_iter().filter_map(|(path, reason)| {
        let (_, what) = files.iter().find(|(known, _)| *known == path)?;
        let (consequence, severity) = what.consequence();
        let message = format!("user '{}' cannot read it{reason}: {consequence}", user.name);
        Some(Diagnostic { severity, ..Diagnostic::file_error(path, message) })
    });
    unreadable.collect()
}

/// Each once, with the most important of its uses.
fn files(config: &Config, served: &[PathBuf]) -> Vec<(PathBuf, FileUse)> {
    let product = &config.product;
    let connect = product.connect.iter().map(|connect| &connect.secret);
    let nodes = product.nodes.iter().map(|nodes| &nodes.file);
    let requests = gate_files(product).into_iter().chain(connect).chain(nodes);
    let templates = product.page.iter().flat_map(|page| &page.template).map(|choice| &choice.file);
    let single = config.single_files().map(|file| &file.path);
    let of_product = (requests.map(|path| (path, FileUse::Requests)))
        .chain(realm_files(config).map(|path| (path, FileUse::Realms)))
        .chain(templates.map(|path| (path, FileUse::Page)))
        .chain(value_files(product).map(|path| (path, FileUse::Values)))
        .chain(single.map(|path| (path, FileUse::Static)));
    let tls = certificate_files::files_in_use(config, served)
        .into_iter()
        .chain(config.settings.tls.dhparams.clone());
    let all = (config.files.iter().cloned().map(|path| (path, FileUse::Settings)))
        .chain(tls.map(|path| (path, FileUse::Tls)))
        .chain(of_product.map(|(path, what)| (config.root.path(path), what)))
        .chain(node_certificates(config).into_iter().map(|path| (path, FileUse::Node)))
        .chain(certificate_files::files_of_all(config).into_iter().map(|path| (path, FileUse::Spare)));
    let mut files: Vec<(PathBuf, FileUse)> = Vec::new();
    for (path, what) in all {
        if !files.iter().any(|(known, _)| *known == path) {
            files.push((path, what));
        }
    }
    files
}

/// Keys and secrets that verify credentials, and the file with the lifetime of tickets.
fn gate_files(product: &Product) -> Vec<&PathBuf> {
    let of_auth = product.auth.iter().flat_map(|auth| {
        let tickets = auth.ticket.iter().flat_map(|kind| {
            let lifetime = kind.lifetime.as_ref().map(|lifetime| &lifetime.file);
            [Some(&kind.key), kind.old_key.as_ref(), lifetime]
        });
        tickets.flatten().chain([&auth.csrf.secret])
    });
    of_auth.collect()
}

/// Only of route scopes that a listener serves: the files of other scopes are never read.
fn realm_files(config: &Config) -> impl Iterator<Item = &PathBuf> {
    let is_served =
        |name: &str| config.settings.listeners.iter().any(|it| it.route_scope.as_deref() == Some(name));
    let served = config.product.route_scope.iter().filter(move |(name, _)| is_served(name));
    served.filter_map(|(_, class)| class.login.as_ref()?.realm_file.as_ref())
}

fn value_files(product: &Product) -> impl Iterator<Item = &PathBuf> {
    product.variable.values().flat_map(|variable| &variable.from).filter_map(|source| {
        let (VariableSource::Match { file, .. } | VariableSource::Section { file, .. }) = source else {
            return None;
        };
        Some(file)
    })
}

/// For each other node the first certificate that exists: nodegate pins it.
fn node_certificates(config: &Config) -> Vec<PathBuf> {
    let Some(nodes) = &config.product.nodes else { return Vec::new() };
    let own = &config.settings.node_name;
    let table = NodeFile::new(Some(nodes), &config.root, own).get();
    let names = table.iter().flat_map(|table| table.nodes.keys()).filter(|name| *name != own);
    let first = |node: &String| {
        let paths = nodes.certificates.iter().map(|path| path.to_string_lossy().replace("{node}", node));
        paths.map(|path| config.root.path(Path::new(&path))).find(|path| path.exists())
    };
    names.filter_map(first).collect()
}
