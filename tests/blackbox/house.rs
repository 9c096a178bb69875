//! Rules of the source that the compiler does not check.

mod documented_tests;
mod links;

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below `folder`, with its path from there.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut waiting: Vec<PathBuf> = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|end| end == "rs") {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    assert!(!found.is_empty());
    found
}

/// A line without its `//` comment; two slashes within quotes are none.
fn code(line: &str) -> &str {
    let (mut quoted, mut escaped, mut slashes) = (false, false, 0);
    for (at, byte) in line.bytes().enumerate() {
        slashes = if byte == b'/' && !quoted { slashes + 1 } else { 0 };
        if slashes == 2 {
            return &line[..at - 1];
        }
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
    }
    line
}

/// The source without the tests of the file.
fn shipped(text: &str) -> &str {
    text.split("\nmod tests {").next().unwrap()
}

const MAX_FILE_LINES: usize = 300;
const MAX_FUNCTION_LINES: usize = 60;

/// The functions of a formatted file, each with its number of lines.
fn functions(text: &str) -> Vec<(String, usize)> {
    let form = regex::Regex::new(r#"^( *)(?:pub(?:\([^)]*\))? )?(?:[a-z]+ |"C" )*fn (\w+)"#).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let named = lines.iter().enumerate().filter_map(|(first, line)| {
        let found = form.captures(line).filter(|_| !line.ends_with([';', '}']))?;
        let end = format!("{}}}", &found[1]);
        let length = lines[first..].iter().position(|line| *line == end)?;
        Some((found[2].to_owned(), length + 1))
    });
    named.collect()
}

#[test]
fn files_and_functions_are_short() {
    let mut count = 0;
    for folder in ["src", "spice/src"] {
        for (name, text) in sources(folder).iter().filter(|(name, _)| !name.ends_with("tests.rs")) {
            let shipped = shipped(text);
            let lines = shipped.trim_end().trim_end_matches("#[cfg(test)]").lines().count();
            assert!(lines < MAX_FILE_LINES, "{folder}/{name} has {lines} lines");
            for (function, lines) in functions(shipped) {
                count += 1;
                assert!(lines < MAX_FUNCTION_LINES, "{folder}/{name}: {function} has {lines} lines");
            }
        }
    }
    assert!(count > 1000, "the functions are not found");
}

#[test]
fn functions_are_counted_with_their_last_line() {
    let text = "fn a() {\n    b();\n}\n\n    pub(super) const unsafe fn c(\n    ) {\n    }\n    fn d();\n";
    assert_eq!(functions(text), [("a".to_owned(), 3), ("c".to_owned(), 3)]);
}

#[test]
fn comments_are_distinguished_from_code() {
    assert_eq!(code("let a = \"https://x\"; // y"), "let a = \"https://x\"; ");
    assert_eq!(code(r#"a("\"//"); /// z"#), r#"a("\"//"); "#);
    assert_eq!(code("a / b"), "a / b");
}

#[test]
fn the_engine_names_no_product() {
    for (name, text) in sources("src") {
        assert!(!["pve", "pmg", "proxmox"].iter().any(|product| name.contains(product)), "{name}");
        let unit_tests = name.ends_with("/tests.rs");
        for (number, line) in shipped(&text).lines().enumerate().filter(|_| !unit_tests) {
            let code = code(line).to_lowercase();
            let named = ["pve", "pmg", "proxmox"].iter().find(|product| code.contains(**product));
            assert!(named.is_none(), "src/{name}:{}: {line}", number + 1);
        }
    }
}

/// The rooms of the house from the top floor down. Each may use the rooms that it lists, all of them below it.
const ROOMS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "server", "admin", "proxy", "handler", "state", "auth", "verdict", "http", "upstream", "fs",
            "tls", "limits", "os", "config", "metrics", "net",
        ],
    ),
    ("server", &["admin", "proxy", "state", "tls", "limits", "os", "config", "metrics", "net"]),
    ("admin", &["proxy", "handler", "state", "http", "upstream", "tls", "os", "config", "metrics", "net"]),
    (
        "proxy",
        &[
            "handler", "state", "auth", "verdict", "http", "upstream", "fs", "time", "tls", "limits", "os",
            "config", "metrics", "net",
        ],
    ),
    (
        "handler",
        &[
            "state", "auth", "verdict", "http", "upstream", "fs", "time", "limits", "os", "config",
            "metrics", "net",
        ],
    ),
    (
        "state",
        &[
            "auth", "verdict", "http", "upstream", "fs", "time", "tls", "limits", "os", "config", "metrics",
            "net",
        ],
    ),
    ("auth", &["verdict", "http", "upstream", "fs", "limits", "os", "config", "metrics", "net"]),
    ("verdict", &["http", "config"]),
    ("http", &["upstream", "fs", "time", "tls", "limits", "os", "config", "metrics", "net"]),
    ("upstream", &["fs", "time", "tls", "os", "config", "metrics", "net"]),
    ("fs", &["os"]),
    ("time", &["tls", "limits", "config"]),
    ("tls", &["os", "config", "metrics", "net"]),
    ("limits", &["os", "metrics", "net"]),
    ("os", &["config", "metrics", "net"]),
    ("config", &["net"]),
    ("metrics", &[]),
    ("net", &[]),
];

/// The room of a file: its top folder, or the file itself.
fn room(name: &str) -> &str {
    name.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The rooms that a line of code names.
fn named_rooms(line: &str) -> impl Iterator<Item = &str> {
    let paths = line.split("crate::").skip(1).chain(line.split("nodegate::").skip(1));
    paths.map(|path| path.split(|byte: char| !byte.is_alphanumeric() && byte != '_').next().unwrap())
}

/// Every import of another room in `src/`, with its place.
fn arrows() -> Vec<(String, String, String)> {
    let mut arrows = Vec::new();
    for (name, text) in sources("src") {
        if ["lib.rs", "testing.rs"].contains(&name.as_str()) || name.ends_with("tests.rs") {
            continue;
        }
        for (number, line) in shipped(&text).lines().map(code).enumerate() {
            assert!(!line.contains("crate::{"), "src/{name}:{}: one path for each import", number + 1);
            for below in named_rooms(line).filter(|below| *below != room(&name)) {
                let place = format!("src/{name}:{}: {}", number + 1, line.trim());
                arrows.push((room(&name).to_owned(), below.to_owned(), place));
            }
        }
    }
    assert!(arrows.len() > 500, "the imports are not found");
    arrows
}

#[test]
fn imports_point_down() {
    for (above, below, place) in arrows() {
        let allowed = ROOMS.iter().find(|(name, _)| *name == above).unwrap().1;
        assert!(allowed.contains(&below.as_str()), "{above} -> {below} is no arrow of the list: {place}");
    }
}

#[test]
fn the_list_of_rooms_is_complete_and_ordered() {
    let mut rooms: Vec<_> = sources("src").iter().map(|(name, _)| room(name).to_owned()).collect();
    rooms.retain(|room| !["lib", "testing"].contains(&room.as_str()));
    rooms.sort();
    rooms.dedup();
    let mut listed: Vec<_> = ROOMS.iter().map(|(name, _)| (*name).to_owned()).collect();
    listed.sort();
    assert_eq!(rooms, listed);
    assert!(rooms.len() <= 20, "{} rooms", rooms.len());
    for (floor, (name, allowed)) in ROOMS.iter().enumerate() {
        for below in *allowed {
            let is_below = ROOMS[floor + 1..].iter().any(|(room, _)| room == below);
            assert!(is_below, "{below} is not below {name}");
        }
    }
}

/// Takes away the folders that use none of those that are left, until there are none or only circles.
#[test]
fn no_circle_runs_between_rooms() {
    let mut left = arrows();
    loop {
        let before = left.len();
        let users: Vec<_> = left.iter().map(|(above, ..)| above.clone()).collect();
        left.retain(|(_, below, _)| users.contains(below));
        if left.is_empty() {
            return;
        }
        assert_ne!(left.len(), before, "a circle: {left:#?}");
    }
}

#[test]
fn arrows_are_found_in_imports_and_paths() {
    let named = |line| named_rooms(line).collect::<Vec<_>>();
    assert_eq!(named("use crate::http::error::ResponseError;"), ["http"]);
    assert_eq!(named("    pub(in crate::cli) fn a(b: crate::tls::TlsStream) {"), ["cli", "tls"]);
    assert_eq!(named("use nodegate::os::logging;"), ["os"]);
    assert!(named("use tokio::net::TcpStream;").is_empty());
}

/// Modules that decide, and what their code may not name: sockets, files, clocks, and whole rooms.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("net/acl.rs", &["tokio", "hyper", "std::fs", "SystemTime::now"]),
    ("auth/authenticator/credential.rs", &["tokio", "hyper", "std::fs", "SystemTime::now"]),
    ("auth/ticket.rs", &["tokio", "hyper", "std::fs", "SystemTime::now"]),
    ("auth/csrf.rs", &["tokio", "hyper", "std::fs", "SystemTime::now"]),
    ("auth/authenticator/mod.rs", &["tokio", "hyper"]),
    ("limits/failure_table.rs", &["tokio", "hyper", "std::fs", "Instant::now", "SystemTime"]),
    ("limits/concurrency.rs", &["tokio", "hyper", "std::fs", "Instant::now", "SystemTime"]),
    ("limits/min_rate.rs", &["tokio", "hyper", "std::fs", "Instant", "SystemTime"]),
    ("limits/call_rate.rs", &["tokio", "hyper", "std::fs", "Instant::now", "SystemTime"]),
    ("upstream/scheduler/call.rs", &["tokio", "hyper", "std::fs", "Instant", "SystemTime", "crate::"]),
    ("upstream/scheduler/choice.rs", &["tokio", "hyper", "std::fs", "Instant::now", "SystemTime", "crate::"]),
    ("upstream/scheduler/cost.rs", &["tokio", "hyper", "std::fs", "Instant::now", "SystemTime", "crate::"]),
    ("upstream/scheduler/lane", &["tokio", "hyper", "std::fs", "Instant::now", "SystemTime", "crate::"]),
    ("os/log_throttle.rs", &["tokio", "hyper", "std::fs", "Instant::now", "SystemTime"]),
    ("auth/fetch_site.rs", &["tokio", "hyper", "std::fs", "crate::"]),
    ("handler/console/origin.rs", &["tokio", "hyper", "std::fs", "crate::state"]),
    ("net/forwarded_host.rs", &["tokio", "hyper", "std::fs"]),
    ("net/web_origin.rs", &["tokio", "hyper", "std::fs", "crate::"]),
    ("net/forwarded.rs", &["tokio", "hyper", "std::fs", "crate::"]),
    ("net/proxy_protocol.rs", &["hyper", "std::fs", "crate::"]),
    ("state/route_scope.rs", &["tokio", "hyper", "std::fs", "crate::auth"]),
    ("http/target.rs", &["tokio", "hyper", "std::fs", "crate::"]),
    ("http/path_pattern.rs", &["tokio", "hyper", "std::fs", "crate::"]),
    ("proxy/router.rs", &["tokio", "hyper", "crate::auth"]),
    ("proxy/http2/frame_budget.rs", &["tokio", "hyper", "std::fs", "Instant", "SystemTime", "crate::"]),
    ("proxy/http2/head.rs", &["tokio", "hyper", "std::fs", "crate::"]),
    ("verdict/", &["tokio", "hyper", "std::fs"]),
    ("http/reserved_field.rs", &["tokio", "hyper", "std::fs"]),
    ("http/request_body.rs", &["tokio", "crate::"]),
    ("net/ip_range.rs", &["tokio", "hyper", "std::fs"]),
    ("config/shell.rs", &["tokio", "hyper", "std::fs", "std::process"]),
    ("config/shell/reader.rs", &["tokio", "hyper", "std::fs"]),
    ("config/section_file.rs", &["tokio", "hyper", "std::fs"]),
    ("config/", &["tokio", "hyper"]),
    ("metrics/", &["tokio", "hyper"]),
    ("cli/takeover/verdict.rs", &["tokio", "hyper", "std::fs", "Instant", "SystemTime", "crate::"]),
    ("handler/", &["crate::os::listener", "crate::net::acl::AccessList"]),
];

#[test]
fn modules_that_decide_use_no_sockets_or_clocks() {
    let sources = sources("src");
    for (module, forbidden) in FORBIDDEN {
        let files: Vec<_> = sources.iter().filter(|(name, _)| name.starts_with(module)).collect();
        assert!(!files.is_empty(), "{module} has moved: correct the table");
        for (name, text) in files {
            for line in shipped(text).lines().map(code) {
                let named = forbidden.iter().find(|what| line.contains(**what));
                assert!(named.is_none(), "src/{name} must not use {}: {line}", named.unwrap());
            }
        }
    }
}

/// After the start nobody looks at text again: the raw side of config is for config itself, for `check`, and for the
/// manual page that lists every key.
#[test]
fn raw_settings_stay_within_config() {
    for (name, text) in sources("src") {
        let may =
            ["cli/check/mod.rs", "cli/generate/settings_page.rs", "testing.rs"].contains(&name.as_str());
        if name.starts_with("config/") || may || name.ends_with("/tests.rs") {
            continue;
        }
        for line in shipped(&text).lines().map(code) {
            for raw in ["config::layers", "config::shell", "config::setting::", "toml::"] {
                assert!(!line.contains(raw), "src/{name} must not use {raw}: {line}");
            }
        }
    }
}

#[test]
fn the_leaf_crate_names_no_engine_code() {
    for (name, text) in sources("spice/src") {
        for line in shipped(&text).lines().map(code) {
            assert!(!line.contains("nodegate::"), "spice/src/{name}: {line}");
        }
    }
}

fn is_static(line: &str) -> bool {
    line.starts_with("static ") || line.starts_with("pub") && line.contains(") static ")
}

/// Thread-locals are not allowed: the worker owns the state of its thread. A static has a comment that says why.
#[test]
fn statics_have_reasons() {
    let mut count = 0;
    for folder in ["src", "spice/src"] {
        for (name, text) in sources(folder) {
            let lines: Vec<_> = shipped(&text).lines().map(str::trim).collect();
            for (number, line) in lines.iter().enumerate() {
                assert!(!code(line).contains("thread_local!"), "{folder}/{name}:{}", number + 1);
                if is_static(line) {
                    count += 1;
                    let mut above = lines[..number].iter().rev();
                    let reason = above.find(|line| !is_static(line) && **line != "tokio::task_local! {");
                    let is_reasoned = reason.is_some_and(|line| line.starts_with("//"));
                    assert!(is_reasoned, "{folder}/{name}:{} gives no reason", number + 1);
                }
            }
        }
    }
    assert!(count > 10, "the statics are not found");
}

/// Files with `unsafe` blocks, and what needs them.
const UNSAFE: &[(&str, usize, &str)] = &[
    ("os/daemonize.rs", 1, "between fork and exec"),
    ("os/program.rs", 2, "between fork and exec"),
    ("os/memory.rs", 1, "returns free memory to the kernel"),
    ("os/systemd.rs", 1, "sockets that systemd hands over as numbers"),
    ("tls/mod.rs", 1, "an OpenSSL call that rust-openssl does not have"),
    ("tls/certificate.rs", 1, "an OpenSSL call that rust-openssl does not have"),
    ("tls/revocation.rs", 1, "an OpenSSL call that rust-openssl does not have"),
    ("tls/stream/client_stream.rs", 2, "OpenSSL calls that rust-openssl does not have"),
    ("tls/session_tickets.rs", 3, "OpenSSL's callback for ticket keys"),
];

#[test]
fn unsafe_blocks_are_listed_with_reasons() {
    for folder in ["src", "spice/src"] {
        for (name, text) in sources(folder) {
            let lines: Vec<_> = shipped(&text).lines().collect();
            let blocks = lines.iter().enumerate().filter(|(_, line)| code(line).contains("unsafe {"));
            let mut count = 0;
            for (number, _) in blocks {
                count += 1;
                let above = lines[..number].iter().rev().take_while(|line| !line.trim().is_empty());
                let reasoned = above.take(8).any(|line| line.trim_start().starts_with("// SAFETY: "));
                assert!(reasoned, "{folder}/{name}:{} gives no reason", number + 1);
            }
            let listed = UNSAFE.iter().find(|(file, ..)| folder == "src" && *file == name);
            assert_eq!(
                count,
                listed.map_or(0, |(_, blocks, _)| *blocks),
                "{folder}/{name}: correct the list"
            );
        }
    }
}
