//! Host names that nodegate answers to (`listen.hosts`, `metrics.hosts`).
//!
//! With DNS rebinding a page evades the same-origin policy: its own name resolves to a server in the user's network.
//! The browser then sends that name as `Host`, which identifies such requests.

use std::net::IpAddr;

use crate::net::web_origin::HostPort;

/// Names of the loopback addresses: those of RFC 6761 section 6.3 and of Debian's `/etc/hosts`.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "ip6-localhost", "ip6-loopback"];

/// The host that a request names, without its port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostName {
    Address(IpAddr),
    /// in lower case, without a dot at the end
    Name(String),
}

impl HostName {
    pub fn from_host_port(place: &HostPort) -> Self {
        let host = place.host();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let bare = bare.strip_suffix('.').unwrap_or(bare);
        match bare.parse::<IpAddr>() {
            Ok(address) => Self::Address(address.to_canonical()),
            Err(_) => Self::Name(bare.to_owned()),
        }
    }

    /// The host of a `Host` header or of an authority. Only lists may have wildcards.
    pub fn parse(text: &str) -> Option<Self> {
        HostPort::parse(text).as_ref().map(Self::from_host_port).filter(|_| !text.contains('*'))
    }

    /// Whether only programs of this machine use that name.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => LOOPBACK_NAMES.contains(&name.as_str()) || name.ends_with(".localhost"),
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum HostEntry {
    Host(HostName),
    /// `*.NAME`: one label before the name, as in certificates
    Below(String),
}

/// A list of names and addresses. An empty list stands for every host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AllowedHosts {
    entries: Vec<HostEntry>,
}

impl AllowedHosts {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an entry names this host.
    pub fn holds(&self, host: &HostName) -> bool {
        self.entries.iter().any(|entry| match entry {
            HostEntry::Host(known) => known == host,
            HostEntry::Below(domain) => match host {
                HostName::Name(name) => {
                    name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == domain)
                }
                HostName::Address(_) => false,
            },
        })
    }

    /// Names and addresses, with commas between them.
    ///
    /// # Errors
    /// The first entry that can match no `Host`, and what to write in its place.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries = text.split([',', ' ']).filter(|entry| !entry.is_empty());
        Ok(Self { entries: entries.map(parse_entry).collect::<Result<_, _>>()? })
    }
}

fn parse_entry(text: &str) -> Result<HostEntry, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(HostEntry::Host(HostName::Address(address.to_canonical())));
    }
    if !text.is_ascii() {
        return Err(format!("'{text}': browsers send such names in their ASCII form: write xn--…"));
    }
    let name = text.to_ascii_lowercase();
    let (wildcard, name) = match name.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, name.as_str()),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if !name.split('.').all(is_label) {
        return Err(format!(
            "'{text}' is not a host: write a name, *.NAME or an address, without scheme, port and path"
        ));
    }
    Ok(if wildcard {
        HostEntry::Below(name.to_owned())
    } else {
        HostEntry::Host(HostName::Name(name.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_compare_without_port_case_and_dot() {
        let list = "pve.example.com, Node1, 192.0.2.7, 2001:db8::7, [::ffff:192.0.2.8], *.lab.example.com., xn--bcher-kva.example";
        let hosts = AllowedHosts::parse(list).unwrap();
        for (host, expected) in [
            ("pve.example.com", true),
            ("PVE.Example.com:8006", true),
            ("pve.example.com.", true),
            ("pve.example.com.:8006", true),
            ("node1:8006", true),
            ("node1.evil.example", false),
            ("evil.example", false),
            ("pve.example.com.evil.example", false),
            ("xpve.example.com", false),
            ("192.0.2.7:8006", true),
            ("[::ffff:192.0.2.7]:8006", true),
            ("192.0.2.8", true),
            ("192.0.2.9", false),
            ("[2001:DB8:0::7]:8006", true),
            ("[2001:db8::8]", false),
            ("a.lab.example.com", true),
            ("A.LAB.example.com:1", true),
            ("lab.example.com", false),
            ("a.b.lab.example.com", false),
            (".lab.example.com", false),
            ("*.lab.example.com", false),
            ("xn--bcher-kva.example", true),
            ("pve.example.com..", false),
            ("localhost", false),
        ] {
            assert_eq!(HostName::parse(host).is_some_and(|host| hosts.holds(&host)), expected, "{host}");
        }
    }

    #[test]
    fn entries_that_match_no_host_are_refused() {
        for wrong in [
            "https://a.example",
            "a.example:8006",
            "a.example/",
            "*",
            "*.",
            "a.*.example",
            "10.0.0.0/8",
            "a..b",
            "b\u{fc}cher.example",
            "@",
            ".",
        ] {
            assert!(AllowedHosts::parse(wrong).is_err(), "{wrong}");
        }
        assert!(AllowedHosts::parse(" , ").unwrap().is_empty());
    }

    #[test]
    fn loopback_has_names_and_addresses() {
        for host in ["localhost", "LOCALHOST.:9221", "a.localhost", "127.0.0.1:9221", "127.9.9.9", "[::1]:1"]
        {
            assert!(HostName::parse(host).unwrap().is_loopback(), "{host}");
        }
        for host in ["localhost.evil.example", "evil.example", "0.0.0.0", "192.0.2.1", "[::]"] {
            assert!(!HostName::parse(host).unwrap().is_loopback(), "{host}");
        }
    }
}
