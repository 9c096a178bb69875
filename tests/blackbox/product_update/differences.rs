//! The differences that `profile-diff` shows.

use nodegate_standin::Product;
use serde_json::{Value, json};

use super::{InstalledSite, method, protected};

#[test]
fn an_unchanged_product_has_no_difference() {
    for (product, methods) in [(Product::Pve, 679), (Product::Pmg, 426)] {
        let installed = InstalledSite::new(product);
        let (code, report) = installed.diff_json(&[]);
        assert_eq!((code, &report["differences"], &report["notes"]), (0, &json!([]), &json!([])), "{report}");
        assert_eq!(report["installed"]["methods"], methods);
        let outcome = installed.diff(&[]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        assert!(outcome.stdout.contains("\nnothing differs\n"), "{outcome:?}");
        assert!(!outcome.stdout.contains("--write"), "there is nothing to do: {outcome:?}");
    }
}

/// An update that brings a console, a call of root, and a directory, moves a call to its node, and drops another one.
fn updated() -> InstalledSite {
    let installed = InstalledSite::new(Product::Pve);
    let update = |lines: &mut Vec<String>| {
        lines.retain(|line| !line.starts_with("GET\t/cluster/ha/groups\t"));
        let apt = lines.iter_mut().find(|line| line.starts_with("GET\t/nodes/{node}/apt\t")).unwrap();
        *apt = apt.replace("\t0\t\t0", "\t0\tnode\t0");
        lines.push(protected("PUT", "/cluster/ceph/health-mute/{code}"));
        lines.push(method("GET", "/nodes/{node}/qemu/{vmid}/serialwebsocket"));
    };
    installed.update(
        update,
        "directory /pve2/new/ /usr/share/new\nfile /new.js /usr/share/new/new.js\npage /new\n",
    );
    installed.site.write("/usr/share/new/new.js", "new();\n");
    installed
}

fn found<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["differences"].as_array().unwrap();
    let found: Vec<_> = all.iter().filter(|difference| difference["name"] == name).collect();
    assert_eq!(found.len(), 1, "{name}: {report:#}");
    found[0]
}

#[test]
fn each_difference_says_what_follows() {
    let (code, report) = updated().diff_json(&[]);
    assert_eq!(code, 1);
    for (name, change, part, ours, installed, fails, follows) in [
        (
            "GET /nodes/{node}/qemu/{vmid}/serialwebsocket",
            "new",
            "route",
            json!(null),
            json!("w"),
            true,
            "console does not open",
        ),
        (
            "PUT /cluster/ceph/health-mute/{code}",
            "new",
            "route",
            json!(null),
            json!("p"),
            false,
            "timeout.answer",
        ),
        ("GET /nodes/{node}/apt", "changed", "route", json!(""), json!("n"), true, "another node"),
        ("GET /cluster/ha/groups", "gone", "route", json!(""), json!(null), false, "not implemented"),
        ("/pve2/new/", "new", "directory", json!(null), json!("/usr/share/new"), true, "404"),
        ("/new.js", "new", "file", json!(null), json!("/usr/share/new/new.js"), true, "404"),
        ("/new", "new", "page", json!(null), json!(""), true, "404"),
    ] {
        let difference = found(&report, name);
        assert_eq!(difference["change"], change, "{difference}");
        assert_eq!(difference["part"], part, "{difference}");
        assert_eq!((&difference["ours"], &difference["installed"]), (&ours, &installed), "{difference}");
        assert_eq!(difference["fails"], fails, "{difference}");
        assert!(difference["follows"].as_str().unwrap().contains(follows), "{difference}");
    }
    assert_eq!(report["differences"].as_array().unwrap().len(), 7, "{report:#}");
    assert_eq!(report["failing"], 5);
    let (_, with_worker) = updated().diff_json(&["--set", "backend.unprivileged=127.0.0.1:86"]);
    let call = found(&with_worker, "PUT /cluster/ceph/health-mute/{code}");
    assert!(call["follows"].as_str().unwrap().contains("which passes it on"), "{call}");
    assert_eq!(call["with_new_table"], "the daemon with root of this node");
}

#[test]
fn the_text_has_the_worst_first() {
    let outcome = updated().diff(&[]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], "installed  680 methods", "{outcome:?}");
    assert_eq!(lines[1], "in use     679 methods, built in (pve-manager 9.2.11)");
    assert_eq!(lines[3], "7 differences, 5 may fail for users");
    let labels: Vec<_> = lines
        .iter()
        .filter_map(|line| line.get(..5))
        .filter(|label| ["FAILS", "works"].contains(label))
        .collect();
    assert_eq!(labels, ["FAILS", "FAILS", "FAILS", "FAILS", "FAILS", "works", "works"]);
    let next = "to use the installed routes:  nodegate profile-diff pve --write /etc/nodegate/pve.routes";
    assert_eq!(lines.last(), Some(&next));
}

#[test]
fn the_profile_decides_about_logins() {
    let installed = InstalledSite::new(Product::Pmg);
    let open = method("POST", "/access/new-login").replace("\tuser\t", "\tworld\t");
    installed.update(|lines| lines.push(open), "");
    let (code, report) = installed.diff_json(&[]);
    let call = found(&report, "POST /access/new-login");
    assert_eq!((code, &call["fails"]), (1, &json!(true)));
    assert!(call["follows"].as_str().unwrap().contains("product.auth.open"), "{call}");
}

/// A page shows a missing directory also if the product's modules do not.
#[test]
fn files_that_pages_load_are_looked_up() {
    let installed = InstalledSite::new(Product::Pve);
    let page =
        "<script src=\"/pve2/js/known.js\"></script><script src=\"/pve5/new.js?ver=[% version %]\"></script>";
    installed.site.write("/usr/share/pve-manager/index.html.tpl", page);
    let (code, report) = installed.diff_json(&[]);
    assert_eq!((code, report["differences"].as_array().unwrap().len()), (1, 1), "{report:#}");
    let file = found(&report, "/pve5/new.js");
    assert_eq!((&file["part"], &file["fails"]), (&json!("file"), &json!(true)), "{file}");
    assert_eq!(file["installed"], "loaded by /usr/share/pve-manager/index.html.tpl");
}
