//! The differences between the installed product on one side, the route table and the profile in use on the other.

use std::collections::BTreeMap;
use std::path::Path;

use super::consequence::{self, Consequence, ServingRules};
use super::installed::{InstalledProduct, ServedKind, ServedPath};
use crate::config::Config;
use crate::config::route_table::ApiMethod;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    New,
    Gone,
    Changed,
}

/// The part of the product that differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DifferentPart {
    Route,
    Served(ServedKind),
}

/// One difference.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    pub(super) change: Change,
    pub(super) part: DifferentPart,
    /// `GET /nodes/{node}/status`, or a URL
    pub(super) name: String,
    /// flags, or a path; `None` if it is new
    pub(super) ours: Option<String>,
    /// `None` if it is gone
    pub(super) installed: Option<String>,
    pub(super) consequence: Consequence,
    /// where the table of the installed product would send the call
    pub(super) with_new_table: Option<String>,
}

/// A method by its verb and its path without the names of parameters.
type MethodKey = (String, String);
/// The path with its parameters, and the flags.
type KnownMethod = (String, ApiMethod);

/// The worst first.
pub(super) fn find(config: &Config, installed: &InstalledProduct) -> Vec<Difference> {
    let mut found = of_routes(config, installed);
    let served = installed.served.iter().filter_map(|served| of_served(config, served));
    found.extend(served);
    found.sort_by_key(|difference| !difference.consequence.fails);
    found
}

fn of_routes(config: &Config, installed: &InstalledProduct) -> Vec<Difference> {
    let ours: BTreeMap<MethodKey, KnownMethod> = config
        .routes
        .table
        .methods()
        .map(|(template, method)| {
            let (verb, path) = template.split_once(' ').unwrap_or((template, ""));
            (key(verb, path), (path.to_owned(), method))
        })
        .collect();
    let theirs: BTreeMap<MethodKey, KnownMethod> = installed
        .methods
        .iter()
        .map(|((path, verb), method)| (key(verb, path), (path.clone(), *method)))
        .collect();
    let new_or_changed = theirs.iter().filter_map(|(key, known)| {
        let before = ours.get(key);
        (before != Some(known)).then(|| of_installed(config, &key.0, before, known))
    });
    let gone =
        ours.iter().filter(|(key, _)| !theirs.contains_key(*key)).map(|((verb, _), (path, method))| {
            Difference {
                change: Change::Gone,
                part: DifferentPart::Route,
                name: format!("{verb} {path}"),
                ours: Some(method.flags()),
                installed: None,
                consequence: consequence::of_gone(),
                with_new_table: None,
            }
        });
    new_or_changed.chain(gone).collect()
}

/// Parameters with other names make no other route, except for the one that names a node.
fn key(verb: &str, path: &str) -> MethodKey {
    let parts = path.split('/').map(|part| match part {
        "{node}" => part,
        _ if part.starts_with("{*") => "{*}",
        _ if part.starts_with('{') => "{}",
        _ => part,
    });
    (verb.to_owned(), parts.collect::<Vec<_>>().join("/"))
}

fn of_installed(
    config: &Config,
    verb: &str,
    ours: Option<&KnownMethod>,
    (path, method): &KnownMethod,
) -> Difference {
    let name = format!("{verb} {path}");
    let open = config.product.auth.iter().flat_map(|auth| &auth.open);
    let rules = ServingRules {
        has_worker: config.settings.unprivileged.is_some(),
        is_open: open.into_iter().any(|call| *call == name),
    };
    let renamed = ours.is_some_and(|(before, known)| before != path && known == method);
    Difference {
        change: if ours.is_some() { Change::Changed } else { Change::New },
        part: DifferentPart::Route,
        ours: ours.map(|(before, known)| if renamed { before.clone() } else { known.flags() }),
        installed: Some(if renamed { path.clone() } else { method.flags() }),
        consequence: consequence::of_method(path, ours.map(|(_, known)| *known), *method, rules),
        with_new_table: Some(consequence::destination(*method, rules)),
        name,
    }
}

/// A directory, file or page that the profile does not have, or has at another place. What only the profile has is no
/// difference: the product's HTTP server adds some by itself, and `nodegate check` names missing ones.
fn of_served(config: &Config, served: &ServedPath) -> Option<Difference> {
    let ServedPath { kind, url, path } = served;
    let product = &config.product;
    let ours = match kind {
        ServedKind::Directory => {
            product.directory.iter().find(|ours| same_url(&ours.url, url)).map(|ours| ours.path.as_path())
        }
        ServedKind::File => product.file.iter().find(|ours| ours.url == *url).map(|ours| ours.path.as_path()),
        ServedKind::Page if product.page.iter().any(|ours| ours.url == *url) => return None,
        ServedKind::Page => None,
    };
    let real = |path: &Path| config.root.path(path);
    let is_missing = *kind != ServedKind::Page && !real(Path::new(path)).exists();
    if is_missing || ours.is_some_and(|ours| same_file(&real(ours), &real(Path::new(path)))) {
        return None;
    }
    let text = match (kind, ours) {
        (ServedKind::Directory, None) => "nodegate answers 404 below this URL",
        (_, None) => "nodegate answers 404",
        (_, Some(_)) => "nodegate serves the old place",
    };
    Some(Difference {
        change: if ours.is_some() { Change::Changed } else { Change::New },
        part: DifferentPart::Served(*kind),
        name: url.clone(),
        ours: ours.map(|ours| ours.display().to_string()),
        installed: Some(path.clone()),
        consequence: Consequence {
            fails: true,
            text: format!("{text}, also with the new table: the profile decides"),
        },
        with_new_table: None,
    })
}

fn same_url(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// Also by another name: packages link directories.
fn same_file(one: &Path, other: &Path) -> bool {
    let is_real =
        || one.canonicalize().ok().zip(other.canonicalize().ok()).is_some_and(|(one, other)| one == other);
    one.components().eq(other.components()) || is_real()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSources;
    use crate::config::product::DirectoryRules;
    use crate::config::root::RootDirectory;
    use crate::config::route_table::parse_method;

    /// A table, a machine with a few directories, and the installed product.
    fn differences(
        table: &str,
        routes: &[(&str, &str)],
        served: &[(ServedKind, &str, &str)],
    ) -> Vec<Difference> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("x.routes"), table).unwrap();
        for existing in ["new", "js", "css"] {
            std::fs::create_dir_all(directory.path().join(existing)).unwrap();
        }
        let root = RootDirectory::new(directory.path().to_owned());
        let sources = ConfigSources { root, sets: vec!["routes.file=/x.routes".to_owned()] };
        let mut config = Config::load("pve", &sources).unwrap();
        let js = DirectoryRules { url: "/js/".to_owned(), path: "/js".into(), links: Vec::new() };
        config.product.directory = vec![js];
        config.product.page = Vec::new();
        let mut installed = InstalledProduct::default();
        for (word, path) in routes {
            let (verb, method) = parse_method(word).unwrap();
            installed.methods.insert(((*path).to_owned(), verb), method);
        }
        installed.served = served
            .iter()
            .map(|(kind, url, path)| ServedPath {
                kind: *kind,
                url: (*url).to_owned(),
                path: (*path).to_owned(),
            })
            .collect();
        find(&config, &installed)
    }

    fn names(found: &[Difference]) -> Vec<(Change, &str, Option<&str>, Option<&str>)> {
        found.iter().map(|it| (it.change, &*it.name, it.ours.as_deref(), it.installed.as_deref())).collect()
    }

    #[test]
    fn equal_tables_have_no_difference() {
        let table = "/a/{x} GET PUT:p\n/b/{*rest} GET:n\n";
        let routes = [("GET", "/a/{x}"), ("PUT:p", "/a/{x}"), ("GET:n", "/b/{*rest}")];
        assert!(differences(table, &routes, &[]).is_empty());
    }

    #[test]
    fn routes_are_new_gone_or_changed() {
        let table = "/a/{x} GET PUT:p\n/b/{old} GET\n/c GET\n";
        let routes = [("GET", "/a/{x}"), ("PUT", "/a/{x}"), ("GET", "/b/{new}"), ("GET:w", "/d/websocket")];
        let found = differences(table, &routes, &[]);
        let expected = [
            (Change::New, "GET /d/websocket", None, Some("w")),
            (Change::Changed, "GET /b/{new}", Some("/b/{old}"), Some("/b/{new}")),
            (Change::Changed, "PUT /a/{x}", Some("p"), Some("")),
            (Change::Gone, "GET /c", Some(""), None),
        ];
        assert_eq!(names(&found), expected);
        let fails: Vec<_> = found.iter().map(|it| it.consequence.fails).collect();
        assert_eq!(fails, [true, false, false, false]);
    }

    #[test]
    fn directories_and_pages_are_compared() {
        let served = [
            (ServedKind::Directory, "/js/", "/js/"),
            (ServedKind::Directory, "/new/", "/new/"),
            (ServedKind::Directory, "/missing/", "/missing/"),
            (ServedKind::Page, "/", ""),
        ];
        let found = differences("/a GET\n", &[("GET", "/a")], &served);
        let expected = [(Change::New, "/new/", None, Some("/new/")), (Change::New, "/", None, Some(""))];
        assert_eq!(names(&found), expected);
        let found = differences("/a GET\n", &[("GET", "/a")], &[(ServedKind::Directory, "/js/", "/css")]);
        assert_eq!(names(&found), [(Change::Changed, "/js/", Some("/js"), Some("/css"))]);
    }
}
