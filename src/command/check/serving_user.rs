//! Whether the user that `run` serves as can read what is read again later: root reads it once at the start, that user
//! at each reload and renewal, and some of it all the time.

use std::path::PathBuf;

use crate::config::Config;
use crate::config::problem::{Problem, Severity};
use crate::process::other_user::{OtherUser, is_public};
use crate::tls::pair_files;

/// What follows where a file cannot be read.
#[derive(Clone, Copy)]
enum Use {
    Settings,
    /// keys, secrets and lists that are read while serving
    Requests,
    Page,
    /// what TLS is set up with
    Tls,
    /// a pair that is not served now, or the CA's word about one
    Spare,
}

impl Use {
    fn consequence(self) -> &'static str {
        match self {
            Self::Settings => "a reload is refused",
            Self::Requests => "requests fail within a minute of the start",
            Self::Page => "the page cannot be rendered",
            Self::Tls => "a reload is refused, and a renewed file is not served",
            Self::Spare => "it will not be served",
        }
    }

    fn severity(self) -> Severity {
        match self {
            Self::Settings | Self::Requests | Self::Page | Self::Tls => Severity::Error,
            Self::Spare => Severity::Warning,
        }
    }
}

/// `served` are the certificates in use. Nothing with `--root`, where `user` counts for nothing.
pub(super) fn problems(config: &Config, served: &[PathBuf]) -> Vec<Problem> {
    let public = pair_files::keys(config).into_iter().filter(|path| is_public(path)).map(|path| {
        let message = "everybody on this machine can read this private key: chmod o-r it";
        Problem { severity: Severity::Warning, ..Problem::file_error(path, message) }
    });
    let unreadable = unreadable(config, served);
    unreadable.into_iter().chain(public).collect()
}

fn unreadable(config: &Config, served: &[PathBuf]) -> Vec<Problem> {
    let Some(user) = OtherUser::find(&config.settings.user).filter(|_| config.root.is_system()) else {
        return Vec::new();
    };
    let files = files(config, served);
    let paths: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
    let unreadable = user.unreadable(&paths).into_iter().filter_map(|(path, reason)| {
        let (_, what) = files.iter().find(|(known, _)| *known == path)?;
        let message = format!("user '{}' cannot read it{reason}: {}", user.name, what.consequence());
        Some(Problem { severity: what.severity(), ..Problem::file_error(path, message) })
    });
    unreadable.collect()
}

/// Each once, with the most important of its uses.
fn files(config: &Config, served: &[PathBuf]) -> Vec<(PathBuf, Use)> {
    let product = &config.product;
    let gate = product.gate.iter().flat_map(|gate| {
        let tickets = gate.ticket.iter().flat_map(|kind| {
            let lifetime = kind.lifetime.as_ref().map(|lifetime| &lifetime.file);
            [Some(&kind.key), kind.old_key.as_ref(), lifetime]
        });
        tickets.flatten().chain([&gate.csrf_secret])
    });
    let connect = product.connect.iter().map(|connect| &connect.secret);
    let nodes = product.nodes.iter().map(|nodes| &nodes.file);
    let requests = gate.chain(connect).chain(nodes).map(|path| config.root.path(path));
    let templates = product.page.iter().flat_map(|page| &page.template);
    let templates = templates.map(|choice| config.root.path(&choice.file));
    let tls =
        pair_files::files_in_use(config, served).into_iter().chain(config.settings.tls.dhparams.clone());
    let all = (config.files.iter().cloned().map(|path| (path, Use::Settings)))
        .chain(requests.map(|path| (path, Use::Requests)))
        .chain(tls.map(|path| (path, Use::Tls)))
        .chain(templates.map(|path| (path, Use::Page)))
        .chain(pair_files::files_of_all(config).into_iter().map(|path| (path, Use::Spare)));
    let mut files: Vec<(PathBuf, Use)> = Vec::new();
    for (path, what) in all {
        if !files.iter().any(|(known, _)| *known == path) {
            files.push((path, what));
        }
    }
    files
}
