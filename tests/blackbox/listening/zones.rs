//! Link-local addresses with their zone, and `net.ipv6.bindv6only`, in a namespace of the test's own.

use std::net::{SocketAddr, SocketAddrV6};

use super::namespace::Namespace;
use super::{on, refused, serves};
use crate::support::{Nodegate, Outcome, Site};

#[test]
fn link_local_addresses_are_served_on_their_interface() {
    let Some(space) = Namespace::new() else { return };
    let site = Site::pve();
    space.inside(|| {
        let index = nix::net::if_::if_nametoindex("gate0").unwrap();
        for zone in ["gate0".to_owned(), index.to_string()] {
            let gate = Nodegate::start(&site, &[&format!("listen.address=fe80::1%{zone}")]);
            let address = SocketAddrV6::new("fe80::1".parse().unwrap(), gate.port(), 0, index);
            assert_eq!(gate.address(), SocketAddr::V6(address), "{zone}");
            assert!(serves(gate.address()), "{zone}");
            assert!(!serves(on("::1", &gate)), "nowhere else");
        }
        let outcome = Outcome::check(&site, &["listen.address=[fe80::1%gate0]"]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
    });
}

#[test]
fn wrong_or_missing_zones_are_reported() {
    let Some(space) = Namespace::new() else { return };
    let site = Site::pve();
    space.inside(|| {
        let other = nix::net::if_::if_nametoindex("gate1").unwrap();
        for (address, message) in [
            ("fe80::1%eth77", "no network interface 'eth77' on this machine".to_owned()),
            ("fe80::1%4711", "no network interface '4711' on this machine".to_owned()),
            (
                "fe80::1",
                "fe80::1 is link-local: write the interface behind it, such as fe80::1%eth0".to_owned(),
            ),
            ("fe80::1%gate1", format!("fe80::1%{other} is not an address of this machine")),
        ] {
            let line = format!("--set: listen.address: {message}");
            let set = format!("listen.address={address}");
            let error = refused(&site, &[&set]);
            assert!(error.lines().any(|said| said == line), "{line}\n{error}");
            let outcome = Outcome::check(&site, &[&set]);
            assert_eq!(outcome.code, 1);
            outcome.complains(&line);
        }
    });
}

#[test]
fn both_families_are_served_despite_bindv6only() {
    let Some(space) = Namespace::new() else { return };
    let site = Site::pve();
    space.inside(|| {
        let said =
            "net.ipv6.bindv6only is 1 on this machine; nodegate serves IPv4 and IPv6 clients all the same";
        assert!(!Outcome::check(&site, &[]).stderr.contains(said));
        std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").unwrap();
        let gate = Nodegate::start(&site, &["listen.address=::"]);
        assert!(serves(on("127.0.0.1", &gate)));
        assert!(serves(on("::1", &gate)));
        let outcome = Outcome::check(&site, &[]);
        assert!(outcome.stderr.contains(said), "{outcome:?}");
        assert_eq!(outcome.code, 0);
    });
}

#[test]
fn the_access_list_sees_a_link_local_client() {
    let Some(space) = Namespace::new() else { return };
    let site = Site::pve();
    space.inside(|| {
        let gate = Nodegate::start(&site, &["listen.address=fe80::1%gate0", "acl.deny_from=fe80::/10"]);
        assert!(!serves(gate.address()));
    });
}
