//! An installed product that cannot be read is named as such: it is no difference.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nodegate_standin::Product;

use super::{InstalledSite, method};
use crate::support::nodegate::eventually;
use crate::support::{Outcome, Site, require_root};

/// A class at the top of the API with this code.
fn with_api(code: &str) -> InstalledSite {
    let installed = InstalledSite::new(Product::Pve);
    installed.write("API2.pm", format!("package PVE::API2;\nuse strict;\nuse warnings;\n{code}\n1;\n"));
    installed
}

fn not_compared(installed: &InstalledSite, arguments: &[&str], part: &str) {
    let outcome = installed.diff(arguments);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome:?}");
    assert!(outcome.stderr.starts_with("the installed product was not compared: "), "{outcome:?}");
    assert!(outcome.stderr.contains(part) && outcome.stderr.lines().count() == 1, "{part}: {outcome:?}");
    let (code, report) = installed.diff_json(arguments);
    assert_eq!(code, 2);
    assert!(report["error"].as_str().unwrap().contains(part), "{report}");
}

#[test]
fn modules_that_cannot_be_loaded_are_named() {
    let site = Site::pve();
    std::fs::create_dir_all(site.path("/usr/share/perl5")).unwrap();
    let missing = InstalledSite { site, family: "PVE" };
    not_compared(&missing, &[], "the module PVE::API2 cannot be loaded: Can't locate PVE/API2.pm");
    let broken = with_api("use PVE::NoSuchModule;");
    not_compared(&broken, &[], "the module PVE::API2 cannot be loaded: Can't locate PVE/NoSuchModule.pm");
    let dying = with_api("die qq(a \\e[31mmessage\\n of two lines\\n);");
    not_compared(&dying, &[], "the module PVE::API2 cannot be loaded: a [31mmessage of two lines");
}

#[test]
fn an_unknown_form_is_named() {
    not_compared(&with_api("sub new {}"), &[], "it has neither method_attributes nor api_dump");
    not_compared(&with_api("sub method_attributes { return [] }"), &[], "PVE::API2 has no methods");
    let odd = "sub method_attributes { return [{ path => 'a', method => 'FETCH' }] }";
    not_compared(&with_api(odd), &[], "the method must be GET, POST, PUT, DELETE");
    let circle = "sub method_attributes { return [{ path => 'a', subclass => 'PVE::API2' }] }";
    not_compared(
        &with_api(circle),
        &[],
        "method_attributes of PVE::API2 failed: PVE::API2 is mounted below itself",
    );
    let clash = "sub method_attributes { return [{ path => '{a}/x', method => 'GET' }, { path => '{*b}', method => 'GET' }] }";
    not_compared(&with_api(clash), &[], "its API cannot be a route table: ");
}

#[test]
fn a_hanging_or_endless_product_is_given_up() {
    let started = Instant::now();
    not_compared(&with_api("sleep 600;"), &["--timeout", "1"], "/usr/bin/perl did not end within 1 s");
    assert!(started.elapsed() < Duration::from_secs(30));
    let endless =
        "sub method_attributes { return [map { { path => ('x' x 200) . $_, method => 'GET' } } 1 .. 40000] }";
    not_compared(&with_api(endless), &[], "wrote more than 4194304 bytes");
}

/// Ctrl-C reaches only nodegate: the modules run in a session of their own.
#[test]
fn an_interrupt_ends_the_modules_too() {
    let mark = format!("300.{}", std::process::id());
    let installed = with_api(&format!("system('sleep {mark} & exec sleep {mark}');"));
    let sleepers = || {
        let lists = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = lists.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| *line == format!("sleep\0{mark}\0")).count()
    };
    let mut diff = installed.diff_command(&[]).spawn().unwrap();
    eventually("the modules run", || sleepers() == 2);
    kill(Pid::from_raw(i32::try_from(diff.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(diff.wait().unwrap().code(), Some(130));
    eventually("they have ended", || sleepers() == 0);
}

#[test]
fn the_memory_of_the_modules_is_limited() {
    not_compared(&with_api("my $length = 3 << 30; my $x = 'x' x $length;"), &[], "Out of memory");
}

/// Modules that find the descriptor of the description, or put anything into their names, command no terminal.
#[test]
fn texts_of_the_product_command_no_terminal() {
    let raw = |lines: &str| {
        format!(
            "for my $fd (3 .. 9) {{ open(my $out, '>&=', $fd) or next; syswrite($out, qq({lines}end\\n)) }}
            require POSIX; POSIX::_exit(0);"
        )
    };
    for line in ["route GET /a\\e[31m", "route GET /a\\tPUT:o", "directory /a/ /\\xc2\\x9b1m", "\\e[2J"] {
        not_compared(&with_api(&raw(&format!("route GET /ok\\n{line}\\n"))), &[], "cannot be shown");
    }
    let outcome = with_api(&raw("route GET /ok\\nnote a\\e]0;b\\a \\xe2\\x80\\xaec\\n")).diff(&[]);
    assert!(outcome.stdout.contains("\nnote     a]0;b c\n"), "{outcome:?}");
}

/// Without the list of registered methods the product's own dump is all that there is.
#[test]
fn the_products_dump_is_enough() {
    let dump = "sub api_dump { return [{ path => '/a', text => 'a', info => { GET => { protected => 1 } }, children =>
        [{ path => '/a/{b:\\\\d+}', text => '{b}', info => { PUT => { proxyto => 'node' } } }] }] }";
    let (code, report) = with_api(dump).diff_json(&[]);
    assert_eq!((code, &report["installed"]["methods"]), (1, &serde_json::json!(2)), "{report}");
    let names: Vec<_> =
        report["differences"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"GET /a") && names.contains(&"PUT /a/{b}"), "{names:?}");
}

/// A class that cannot be walked makes no half of an API: the dump counts, or nothing does.
#[test]
fn half_of_an_api_does_not_count() {
    let broken = "sub method_attributes { return [{ path => 'a', method => 'GET' }, { path => 'b', subclass => 'No' }] }";
    not_compared(&with_api(broken), &[], "method_attributes of PVE::API2 failed: Can't locate object method");
    let dump = "sub api_dump { return [{ path => '/a', text => 'a', info => { PUT => {} } }] }";
    let (code, report) = with_api(&format!("{broken}\n{dump}")).diff_json(&[]);
    assert_eq!((code, &report["installed"]["methods"]), (1, &serde_json::json!(1)), "{report}");
    let note = report["notes"][0].as_str().unwrap();
    assert!(note.starts_with("method_attributes of PVE::API2 failed: "), "{report}");
}

/// The product's routes count also if its pages cannot be known.
#[test]
fn unknown_pages_are_a_note() {
    let installed = InstalledSite::new(Product::Pve);
    installed.update(|lines| lines.push(method("GET", "/cluster/new")), "");
    installed.write(
        "Service/pveproxy.pm",
        "package PVE::Service::pveproxy; sub init { die qq(no such day\\n) } 1;\n",
    );
    let (code, report) = installed.diff_json(&[]);
    assert_eq!((code, report["differences"].as_array().unwrap().len()), (1, 1), "{report}");
    assert_eq!(report["notes"], serde_json::json!(["the pages and directories are not known: no such day"]));
    let text = installed.diff(&[]).stdout;
    assert!(text.contains("\nnote     the pages and directories are not known: no such day\n"), "{text}");
}

#[test]
fn routes_without_a_flag_are_notes() {
    let installed = InstalledSite::new(Product::Pve);
    let odd = method("GET", "/cluster/odd").replace("\t0\t\t0\t1", "\t0\tleader\t0\t1");
    installed.update(|lines| lines.push(odd), "");
    let (code, report) = installed.diff_json(&[]);
    assert_eq!(code, 1);
    let note = "GET /cluster/odd goes to 'leader', which no flag can say";
    assert!(report["notes"].as_array().unwrap().iter().any(|found| found == note), "{report}");
}

#[test]
fn the_products_code_does_not_run_as_root() {
    if !require_root("start the command as root") {
        return;
    }
    let installed = with_api(
        "my @groups = split / /, $); die qq(user $> with @groups and PATH $ENV{PATH} in @{[scalar keys %ENV]}\\n);",
    );
    let www_data = nix::unistd::User::from_name("www-data").unwrap().unwrap();
    let group = www_data.gid;
    let expected = format!("user {} with {group} and PATH /usr/local/sbin:", www_data.uid);
    not_compared(&installed, &[], &expected);
    not_compared(&installed, &["--set", "user=no-such-user"], "there is no user 'no-such-user'");
    not_compared(&installed, &["--set", "user=root"], "root does not run the product's code");
}

#[test]
fn settings_and_profiles_without_a_product_are_named() {
    let site = Site::pve();
    let spice = Outcome::ask(&site, &["profile-diff", "spice"]);
    assert_eq!(spice.code, 2);
    assert!(spice.stderr.ends_with("its profile has no [product.dump]\n"), "{spice:?}");
    let wrong = Outcome::ask(&site, &["profile-diff", "pve", "--set", "workers.x=1"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("workers.x: unknown key"), "{wrong:?}");
    let installed = InstalledSite::new(Product::Pve);
    let file = "/nonexistent/directory/x.routes";
    not_compared(
        &installed,
        &["--write", file],
        "/nonexistent/directory/x.routes cannot be written: No such file",
    );
}
