//! The differences between the installed product on one side, the route table and the profile in use on the other.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::consequence::{self, Consequence, ServingRules};
use super::installed::{InstalledProduct, ServedKind, ServedPath};
use super::page_links;
use crate::config::Config;
use crate::config::added_files::{AddedFiles, is_packaged};
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
    let loaded = page_links::find(config, &found);
    found.extend(loaded);
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

/// A directory, file or page that is not served, or from another place. What only the profile has is no difference: the
/// product's HTTP server adds some by itself, and `nodegate check` names missing ones.
fn of_served(config: &Config, served: &ServedPath) -> Option<Difference> {
    let ServedPath { kind, url, path } = served;
    let ours = match place(config, &config.routes.table.added, served) {
        ServedPlace::Same => return None,
        ServedPlace::Other(ours) => Some(ours.display().to_string()),
        ServedPlace::Nowhere => None,
    };
    let text = match (kind, &ours) {
        (ServedKind::Directory, None) => "nodegate answers 404 below this URL",
        (ServedKind::File, None) => "nodegate answers 404",
        (ServedKind::Page, None) => "nodegate answers 404, also with the new table: the profile decides",
        (_, Some(_)) => "nodegate serves the old place",
    };
    let is_addable = *kind != ServedKind::Page && is_packaged(&plain_path(Path::new(path)));
    Some(Difference {
        change: if ours.is_some() { Change::Changed } else { Change::New },
        part: DifferentPart::Served(*kind),
        name: url.clone(),
        ours,
        installed: Some(path.clone()),
        consequence: Consequence { fails: true, text: text.to_owned() },
        with_new_table: is_addable.then(|| format!("served from {path}")),
    })
}

/// The directories and files that the profile does not have, as lines of a route table.
pub(super) fn added_lines(config: &Config, installed: &InstalledProduct) -> Vec<String> {
    let none = AddedFiles::default();
    let missing = installed.served.iter().filter(|served| {
        served.kind != ServedKind::Page && !matches!(place(config, &none, served), ServedPlace::Same)
    });
    let lines = missing.map(|served| {
        let url = served.url.trim_end_matches('/');
        let path = plain_path(Path::new(&served.path));
        match served.kind {
            ServedKind::Directory => format!("directory {url}/ {}", path.display()),
            ServedKind::File | ServedKind::Page => format!("file {url} {}", path.display()),
        }
    });
    // A line that no table may have is left out, such as a directory at `x/`, or a second one at `/x/`.
    let mut added = AddedFiles::default();
    lines.filter(|line| matches!(added.add_line(line), Some(Ok(())))).collect()
}

/// Whether something of the product is served.
enum ServedPlace<'a> {
    Same,
    Other(&'a Path),
    Nowhere,
}

/// A directory or file that does not exist counts as served: there is nothing to serve.
fn place<'a>(config: &'a Config, added: &'a AddedFiles, served: &ServedPath) -> ServedPlace<'a> {
    let ServedPath { kind, url, path } = served;
    let product = &config.product;
    let ours = match kind {
        ServedKind::Directory => {
            let mut known = added.with_directories(&product.directory);
            known.find(|ours| same_url(&ours.url, url)).map(|ours| ours.path.as_path())
        }
        ServedKind::File => {
            let mut known = added.with_files(&product.file);
            known.find(|ours| ours.url == *url).map(|ours| ours.path.as_path())
        }
        ServedKind::Page if product.page.iter().any(|ours| ours.url == *url) => return ServedPlace::Same,
        ServedKind::Page => return ServedPlace::Nowhere,
    };
    let installed = config.root.path(path);
    match ours {
        _ if !installed.exists() => ServedPlace::Same,
        Some(ours) if same_file(&config.root.path(ours), &installed) => ServedPlace::Same,
        Some(ours) => ServedPlace::Other(ours),
        None => ServedPlace::Nowhere,
    }
}

/// Without `.` and `..`.
fn plain_path(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => (),
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
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

    fn differences(
        table: &str,
        routes: &[(&str, &str)],
        served: &[(ServedKind, &str, &str)],
    ) -> Vec<Difference> {
        compare(table, routes, served).0
    }

    /// A table, a machine with a few directories, and the installed product. Returns also the lines of a new table.
    fn compare(
        table: &str,
        routes: &[(&str, &str)],
        served: &[(ServedKind, &str, &str)],
    ) -> (Vec<Difference>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("x.routes"), table).unwrap();
        for existing in ["usr/new", "usr/js", "usr/css", "etc/keys"] {
            std::fs::create_dir_all(directory.path().join(existing)).unwrap();
        }
        let root = RootDirectory::new(directory.path().to_owned());
        let sources = ConfigSources { root, sets: vec!["routes.file=/x.routes".to_owned()] };
        let mut config = Config::load("pve", &sources).unwrap();
        let js = DirectoryRules { url: "/js/".to_owned(), path: "/usr/js".into(), links: Vec::new() };
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
        (find(&config, &installed), added_lines(&config, &installed))
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
            (ServedKind::Directory, "/js/", "/usr/js/"),
            (ServedKind::Directory, "/new/", "/usr/css/../new/"),
            (ServedKind::Directory, "/missing/", "/usr/missing/"),
            (ServedKind::Page, "/", ""),
        ];
        let (found, lines) = compare("/a GET\n", &[("GET", "/a")], &served);
        let expected =
            [(Change::New, "/new/", None, Some("/usr/css/../new/")), (Change::New, "/", None, Some(""))];
        assert_eq!(names(&found), expected);
        assert_eq!(lines, ["directory /new/ /usr/new"]);
        let (found, lines) =
            compare("/a GET\n", &[("GET", "/a")], &[(ServedKind::Directory, "/js/", "/usr/css")]);
        assert_eq!(names(&found), [(Change::Changed, "/js/", Some("/usr/js"), Some("/usr/css"))]);
        assert_eq!(lines, ["directory /js/ /usr/css"]);
    }

    #[test]
    fn added_directories_are_no_difference() {
        let table = "directory /new/ /usr/new\ndirectory /js/ /usr/css\n/a GET\n";
        let served =
            [(ServedKind::Directory, "/new/", "/usr/new/"), (ServedKind::Directory, "/js/", "/usr/css")];
        let (found, lines) = compare(table, &[("GET", "/a")], &served);
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(
            lines,
            ["directory /new/ /usr/new", "directory /js/ /usr/css"],
            "the next table has them too"
        );
    }
    #[test]
    fn other_paths_are_shown_and_not_added() {
        let keys = [(ServedKind::Directory, "/keys/", "/etc/keys")];
        let (found, lines) = compare("/a GET\n", &[("GET", "/a")], &keys);
        assert_eq!(names(&found), [(Change::New, "/keys/", None, Some("/etc/keys"))]);
        assert!(lines.is_empty() && found[0].with_new_table.is_none());
    }
}
