//! Files that administrators and other programs write.

use std::fmt::Write as _;

use nodegate::testing::config::shell;
use nodegate::testing::net::{AddressList, NetworkSet};
use nodegate::testing::net::{parse_entry, parse_list};
use nodegate::testing::upstream::{NodeTable, parse_members, parse_sections};

/// A value that was read, written down as plain quotes, is read again as the same.
pub(crate) fn env_file(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    let (assignments, errors) = shell::parse(bytes);
    assert!(errors.iter().all(|error| (1..=lines).contains(&error.line) && !error.message.is_empty()));
    let mut text = String::new();
    for assignment in &assignments {
        assert!((1..=lines).contains(&assignment.line));
        assert!(
            !assignment.name.is_empty() && !assignment.name.starts_with(|first: char| first.is_ascii_digit())
        );
        assert!(assignment.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        if assignment.value.contains('\r') {
            return;
        }
        let _ = writeln!(text, "{}='{}'", assignment.name, assignment.value.replace('\'', r"'\''"));
    }
    let (again, errors) = shell::parse(text.as_bytes());
    assert!(errors.is_empty(), "{errors:?} in {text}");
    let pairs = |all: &[shell::ShellAssignment]| -> Vec<(String, String)> {
        all.iter().map(|one| (one.name.clone(), one.value.clone())).collect()
    };
    assert_eq!(pairs(&assignments), pairs(&again));
}

/// A range written out is the same range, and the table says of its ends what the list says.
pub(crate) fn address_list(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (entries, errors) = parse_list(&text);
    assert!(errors.iter().all(|error| !error.to_string().is_empty()));
    for (_, ranges) in &entries {
        for range in ranges {
            let (first, last) = (range.first(), range.last());
            assert!(first <= last && first.is_ipv4() == last.is_ipv4());
            assert!(range.contains(first) && range.contains(last));
            let written =
                parse_entry(&format!("{first}-{last}")).or_else(|_| parse_entry(&first.to_string()));
            assert_eq!(written, Ok(vec![*range]));
        }
    }
    // An IPv4 address in IPv6 clothing is IPv4, so a range may not hold its own end; both ways to look agree on that.
    let ends =
        entries.iter().flat_map(|(_, ranges)| ranges.iter().flat_map(|range| [range.first(), range.last()]));
    let ends: Vec<_> = ends.collect();
    let set = NetworkSet::new(entries.iter().flat_map(|(_, ranges)| ranges.iter().copied()));
    let list = AddressList::new(entries);
    for end in ends {
        assert_eq!(list.contains(end), list.entry_for(end).is_some(), "{end}");
        assert_eq!(list.contains(end), set.contains(end), "{end}");
        assert!(list.contains(end) || end != end.to_canonical(), "{end}");
    }
}

pub(crate) fn members(bytes: &[u8]) {
    if let Ok(table) = parse_members(bytes) {
        check_table(&table);
    }
}

pub(crate) fn cluster_conf(bytes: &[u8]) {
    if let Ok(table) = parse_sections(bytes) {
        check_table(&table);
        assert!(table.master.iter().all(|master| table.nodes.contains_key(master)));
        assert!(table.fingerprints.keys().all(|node| table.nodes.contains_key(node)));
    }
}

fn check_table(table: &NodeTable) {
    for (name, address) in &table.nodes {
        assert_eq!(table.find(name), Some((name.as_str(), *address)));
        assert!(table.find(&name.to_ascii_uppercase()).is_some());
    }
}
