//! One function for each kind of input from others. It takes any bytes, and panics when the reader does what it must
//! not: accepts a credential without a valid signature, reads the same in two ways, takes more than there is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::missing_panics_doc,
    reason = "a finding is a panic"
)]

mod answers;
mod credentials;
mod proxies;
mod requests;
mod reserved;
mod settings;
mod templates;
mod vectors;
mod verdicts;

use std::path::{Path, PathBuf};

/// Something that is read, and the folder of its corpus.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    Target { name: "address-list", run: settings::address_list },
    Target { name: "answer", run: answers::answer },
    Target { name: "answer-console", run: verdicts::console_place },
    Target { name: "answer-login", run: verdicts::login },
    Target { name: "answer-permission", run: verdicts::permission },
    Target { name: "answer-token", run: verdicts::api_token },
    Target { name: "answer-upload", run: verdicts::upload },
    Target { name: "cluster-conf", run: settings::cluster_conf },
    Target { name: "connect-head", run: requests::connect_head },
    Target { name: "credentials", run: credentials::credentials },
    Target { name: "csrf", run: credentials::csrf },
    Target { name: "env-file", run: settings::env_file },
    Target { name: "members", run: settings::members },
    Target { name: "multipart", run: requests::multipart },
    Target { name: "proxy-header", run: proxies::proxy_header },
    Target { name: "real-ip", run: proxies::real_ip },
    Target { name: "request-head", run: requests::request_head },
    Target { name: "request-target", run: requests::request_target },
    Target { name: "reserved-field", run: reserved::reserved_field },
    Target { name: "template", run: templates::template },
    Target { name: "ticket", run: credentials::ticket },
    Target { name: "websocket", run: requests::websocket },
];

/// The target for `bytes`, by its name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Where the inputs of a target are kept.
pub fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}
