//! The processes that hold a listening port, by the kernel's tables.

use std::fs;
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// A process with the listening socket.
#[derive(Debug)]
pub(super) struct PortHolder {
    pub(super) pid: String,
    pub(super) command: String,
    /// the names in its control group
    groups: Vec<String>,
}

impl PortHolder {
    /// Whether the process belongs to this unit.
    pub(super) fn belongs_to(&self, unit: &str) -> bool {
        self.groups.iter().any(|group| group == unit)
    }
}

/// The processes whose sockets listen on this port, on any address.
pub(super) fn holders(port: u16) -> Vec<PortHolder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let sockets: Vec<_> = tables.iter().flat_map(|table| sockets(table, port)).collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let processes = processes.flatten().map(|entry| entry.path()).filter(|path| is_process(path));
    processes.filter(|process| holds(process, &sockets)).map(|process| describe(&process)).collect()
}

/// The sockets of a table that listen on this port, as links in `/proc/PID/fd` name them.
fn sockets(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let socket = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == LISTENING;
        is_it.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
    };
    table.lines().skip(1).filter_map(socket).collect()
}

fn is_process(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
}

fn holds(process: &Path, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    let mut links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}

fn describe(process: &Path) -> PortHolder {
    let read = |name: &str| fs::read_to_string(process.join(name)).unwrap_or_default();
    PortHolder {
        pid: process.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        command: read("comm").trim().to_owned(),
        groups: read("cgroup").split(['/', '\n']).map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_table_of_the_kernel_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 00000000:1F46 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 4711 1\n\
             1: 0100007F:1F46 0100007F:0016 01 00000000:00000000 00:00000000 00000000    33        0 4712 1\n\
             2: 00000000:1F47 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 4713 1\n";
        assert_eq!(sockets(table, 8006), ["socket:[4711]"]);
        assert!(sockets(table, 22).is_empty());
    }

    #[test]
    fn the_holder_of_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = std::process::id().to_string();
        let found = holders(port);
        assert!(found.iter().any(|holder| holder.pid == own && !holder.belongs_to("a.service")), "{found:?}");
        drop(listener);
        assert!(holders(port).is_empty());
    }
}
