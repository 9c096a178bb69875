//! The listening sockets of this machine, and the processes that have them open.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use nix::unistd::{Uid, User};
use procfs::ProcError;
use procfs::net::TcpState;
use procfs::process::{FDTarget, Process, all_processes};

use crate::config::Config;
use crate::config::settings::{ListenAddress, ListenSettings};
use crate::os::daemon_process::DaemonProcess;

const OWN_NAME: &str = env!("CARGO_PKG_NAME");
/// The kernel writes it behind the path of a program whose file is gone.
const DELETED: &str = " (deleted)";
/// Characters of a command line.
const MAX_COMMAND_CHARS: usize = 60;

/// A listening socket.
pub(super) struct ListeningPort {
    pub(super) address: SocketAddr,
    /// the name of its user
    pub(super) user: String,
    /// The most telling one first: nodegate before the original, and the service manager last. Empty if this user may
    /// not see them.
    pub(super) owners: Vec<Owner>,
}

impl ListeningPort {
    /// The most telling owner.
    pub(super) fn owner(&self) -> Option<&Owner> {
        self.owners.first()
    }

    /// Whether a listener at this port cannot open it. `None` is every address.
    pub(super) fn overlaps(&self, port: u16, address: Option<IpAddr>) -> bool {
        let own = self.address.ip().to_canonical();
        self.address.port() == port
            && address.is_none_or(|wanted| own.is_unspecified() || own == wanted.to_canonical())
    }

    /// Whether its owners are known, and none of them belongs to this unit.
    pub(super) fn is_foreign_to(&self, unit: &str) -> bool {
        !self.owners.is_empty() && !self.owners.iter().any(|owner| owner.belongs_to(unit))
    }
}

/// In the order in which they explain a port.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum OwnerKind {
    Nodegate,
    /// the daemon that nodegate replaces
    Original,
    Other,
    /// the service manager, which opens sockets for others
    Manager,
}

#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) pid: u32,
    pub(super) command: String,
    pub(super) kind: OwnerKind,
    /// the names in its control group
    groups: Vec<String>,
}

impl Owner {
    /// For a message; `daemon` is the name of the original.
    pub(super) fn text(&self, daemon: &str) -> String {
        match self.kind {
            OwnerKind::Original => format!("the original {daemon} (pid {})", self.pid),
            OwnerKind::Nodegate => format!("another nodegate (pid {})", self.pid),
            OwnerKind::Other | OwnerKind::Manager => format!("'{}' (pid {})", self.command, self.pid),
        }
    }

    fn belongs_to(&self, unit: &str) -> bool {
        self.groups.iter().any(|group| group == unit)
    }
}

/// The address of a listener, as far as the settings name one.
pub(super) fn literal_address(listen: &ListenSettings) -> Option<IpAddr> {
    match &listen.address {
        ListenAddress::Literal { address, .. } => Some(*address).filter(|address| !address.is_unspecified()),
        ListenAddress::Any | ListenAddress::AnyV6 | ListenAddress::Name(_) => None,
    }
}

/// The original, if the pid file names it. The file may also name nodegate.
pub(super) fn original(config: &Config) -> Option<Owner> {
    let found = DaemonProcess::find(config)?;
    let owner = describe(&Process::new(found.pid.as_raw()).ok()?, &config.product.daemon)?;
    (owner.kind == OwnerKind::Original).then_some(owner)
}

/// The process that has the port of the settings open: the original if it is one of several. The original has the
/// product's own port, even if the settings name another one.
pub(super) fn server(config: &Config) -> Option<Owner> {
    let ports = listening_ports(&config.product.daemon).ok()?;
    let at = |port| {
        let owners =
            ports.iter().filter(|found| found.address.port() == port).flat_map(|found| &found.owners);
        owners.min_by_key(|owner| (owner.kind != OwnerKind::Original, owner.kind)).cloned()
    };
    let original = || at(config.own_port).filter(|owner| owner.kind == OwnerKind::Original);
    at(config.settings.listen.port).or_else(|| if config.is_trial() { None } else { original() })
}

/// `daemon` is the name of the original.
pub(super) fn listening_ports(daemon: &str) -> Result<Vec<ListeningPort>, ProcError> {
    let mut entries = procfs::net::tcp()?;
    // A kernel without IPv6 has no such file.
    entries.extend(procfs::net::tcp6().unwrap_or_default());
    entries.retain(|entry| entry.state == TcpState::Listen);
    let mut owners = owners(daemon);
    let user = |uid| {
        User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
    };
    let port = |entry: procfs::net::TcpNetEntry| ListeningPort {
        address: entry.local_address,
        user: user(entry.uid),
        owners: owners.remove(&entry.inode).unwrap_or_default(),
    };
    Ok(entries.into_iter().map(port).collect())
}

/// The owners of each socket.
fn owners(daemon: &str) -> HashMap<u64, Vec<Owner>> {
    let mut owners: HashMap<u64, Vec<Owner>> = HashMap::new();
    for process in all_processes().into_iter().flatten().flatten() {
        let Ok(descriptors) = process.fd() else { continue };
        let sockets = descriptors.flatten().filter_map(|descriptor| {
            if let FDTarget::Socket(inode) = descriptor.target { Some(inode) } else { None }
        });
        let sockets: HashSet<_> = sockets.collect();
        if sockets.is_empty() {
            continue;
        }
        let Some(owner) = describe(&process, daemon) else { continue };
        for inode in sockets {
            owners.entry(inode).or_default().push(owner.clone());
        }
    }
    for owners in owners.values_mut() {
        owners.sort_by_key(|owner| owner.kind);
    }
    owners
}

fn describe(process: &Process, daemon: &str) -> Option<Owner> {
    let pid = u32::try_from(process.pid()).ok()?;
    let command = process.cmdline().unwrap_or_default();
    let program = process.exe().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let kind = kind(pid, &program, &command, daemon);
    let shown: String =
        command.join(" ").chars().filter(|c| !c.is_control()).take(MAX_COMMAND_CHARS).collect();
    let groups = process.cgroups().map(|groups| groups.0).unwrap_or_default();
    let groups = groups.iter().flat_map(|group| group.pathname.split('/')).map(str::to_owned).collect();
    Some(Owner { pid, command: if shown.is_empty() { program } else { shown }, kind, groups })
}

/// The program decides; its arguments only where the program is an interpreter of the original.
fn kind(pid: u32, program: &str, command: &[String], daemon: &str) -> OwnerKind {
    let name = |path: &str| Path::new(path).file_name().and_then(OsStr::to_str).map(str::to_owned);
    let first = command.first().map_or("", String::as_str);
    let first_word = first.split_whitespace().next().unwrap_or_default();
    if name(program.trim_end_matches(DELETED)).as_deref() == Some(OWN_NAME) {
        OwnerKind::Nodegate
    } else if name(first_word).as_deref() == Some(daemon)
        || command.get(1..).unwrap_or_default().iter().any(|word| name(word).as_deref() == Some(daemon))
    {
        OwnerKind::Original
    } else if pid == 1 {
        OwnerKind::Manager
    } else {
        OwnerKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart() {
        let kind = |pid, program: &str, command: &[&str]| {
            kind(pid, program, &command.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), "pveproxy")
        };
        assert_eq!(kind(7, "/usr/bin/nodegate", &["/usr/bin/nodegate", "run", "pve"]), OwnerKind::Nodegate);
        assert_eq!(kind(7, "/usr/bin/nodegate (deleted)", &["pveproxy", "start"]), OwnerKind::Nodegate);
        assert_eq!(kind(7, "/usr/bin/perl", &["pveproxy worker"]), OwnerKind::Original);
        assert_eq!(
            kind(7, "/usr/bin/perl", &["/usr/bin/perl", "-T", "/usr/bin/pveproxy", "start"]),
            OwnerKind::Original
        );
        assert_eq!(kind(7, "/usr/sbin/nginx", &["nginx: master process"]), OwnerKind::Other);
        assert_eq!(kind(1, "/usr/lib/systemd/systemd", &["/sbin/init"]), OwnerKind::Manager);
        assert_eq!(kind(7, "", &[]), OwnerKind::Other);
    }

    #[test]
    fn the_own_socket_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let find = || listening_ports("pveproxy").unwrap().into_iter().find(|port| port.address == address);
        let own = find().unwrap();
        assert_eq!(own.owner().map(|owner| owner.pid), Some(std::process::id()));
        assert!(own.is_foreign_to("a.service"), "{:?}", own.owners);
        drop(listener);
        // A program that another test starts has the socket until its exec.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while find().is_some() {
            assert!(std::time::Instant::now() < until, "the socket is closed");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_port_of_several_owners_is_explained() {
        let owner = |kind, group: &str| Owner {
            pid: 7,
            command: String::new(),
            kind,
            groups: vec![String::new(), "system.slice".to_owned(), group.to_owned()],
        };
        let port = |owners| ListeningPort {
            address: std::net::SocketAddr::from(([0, 0, 0, 0], 8006)),
            user: "root".to_owned(),
            owners,
        };
        let manager = || owner(OwnerKind::Manager, "init.scope");
        let activated = port(vec![owner(OwnerKind::Original, "a.service"), manager()]);
        assert_eq!(activated.owner().map(|owner| owner.kind), Some(OwnerKind::Original));
        assert!(!activated.is_foreign_to("a.service") && activated.is_foreign_to("b.service"));
        assert!(port(vec![manager()]).is_foreign_to("a.service"));
        assert!(!port(Vec::new()).is_foreign_to("a.service"), "an unknown owner is no foreign one");
    }
}
