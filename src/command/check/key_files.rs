//! Whether the user that `run` serves as may read the keys and secrets: as root it reads them once at the start, and as
//! that user with each reload and renewal.

use std::ffi::CString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{User, getgrouplist};

use crate::config::Config;
use crate::config::problem::{Problem, Severity};
use crate::tls::pair;

const READ: u32 = 4;
const SEARCH: u32 = 1;

/// A user with all groups.
struct Reader {
    name: String,
    user: u32,
    groups: Vec<u32>,
}

/// Not with `--root`, where `user` counts for nothing.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let reader = Reader::find(&config.settings.user).filter(|_| config.root.is_system());
    let unreadable = reader.iter().flat_map(|reader| {
        files(config).into_iter().filter_map(|path| {
            let obstacle = obstacle(&path, reader)?;
            let message = format!(
                "user '{}' cannot read it{obstacle}: a reload or a renewed file will not be taken up",
                reader.name
            );
            Some(warning(path, message))
        })
    });
    let public = pair::keys(config).into_iter().filter(|path| is_public(path)).map(|path| {
        warning(path, "everybody on this machine can read this private key: chmod o-r it".to_owned())
    });
    unreadable.chain(public).collect()
}

fn warning(path: PathBuf, message: String) -> Problem {
    Problem { severity: Severity::Warning, ..Problem::file_error(path, message) }
}

fn files(config: &Config) -> Vec<PathBuf> {
    let product = &config.product;
    let gate = product.gate.iter().flat_map(|gate| {
        let tickets = gate.ticket.iter().flat_map(|kind| [Some(&kind.key), kind.old_key.as_ref()]);
        tickets.flatten().chain([&gate.csrf_secret])
    });
    let connect = product.connect.iter().map(|connect| &connect.secret);
    let nodes = product.nodes.iter().map(|nodes| &nodes.file);
    let mut files = pair::files_of_all(config);
    files.extend(gate.chain(connect).chain(nodes).map(|path| config.root.path(path)));
    files.sort();
    files.dedup();
    files
}

/// What is in the way; nothing is where there is no file.
fn obstacle(path: &Path, reader: &Reader) -> Option<String> {
    let file = std::fs::metadata(path).ok()?;
    let closed = path
        .ancestors()
        .skip(1)
        .find(|directory| std::fs::metadata(directory).is_ok_and(|metadata| !reader.may(SEARCH, &metadata)));
    match closed {
        Some(directory) => Some(format!(" ({} is closed to it)", directory.display())),
        None if reader.may(READ, &file) => None,
        None => Some(format!(" (mode {:04o})", file.mode() & 0o7777)),
    }
}

fn is_public(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & READ != 0)
}

impl Reader {
    /// `None` for root, who may all, and for nobody that exists: `run` says so.
    fn find(name: &str) -> Option<Self> {
        let user = User::from_name(name).ok().flatten().filter(|user| !user.uid.is_root())?;
        let groups = getgrouplist(&CString::new(name).ok()?, user.gid).ok()?;
        let groups = groups.iter().map(|group| group.as_raw()).collect();
        Some(Self { name: name.to_owned(), user: user.uid.as_raw(), groups })
    }

    fn may(&self, right: u32, metadata: &Metadata) -> bool {
        let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
        let bits = if owner == self.user {
            mode >> 6
        } else if self.groups.contains(&group) {
            mode >> 3
        } else {
            mode
        };
        bits & right != 0
    }
}
