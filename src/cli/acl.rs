//! `nodegate acl PROFILE ADDR…`: whether an address may connect, and which setting decides. One line for each
//! address, and one more for each `[[listener]]`.

use std::io::BufRead as _;
use std::net::IpAddr;
use std::process::ExitCode;

use super::{CommandResult, load, say};
use crate::config::settings::ListenerSettings;
use crate::config::{Config, ConfigSources};
use crate::net::acl::{AccessRule, PeerIp};

pub fn run(profile: &str, options: &ConfigSources, addresses: &[String]) -> CommandResult {
    let config = load(profile, options)?;
    let mut good = true;
    for address in addresses {
        if address == "-" {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                let line = line.trim();
                if !line.is_empty() {
                    good &= explain(&config, line);
                }
            }
        } else {
            good &= explain(&config, address);
        }
    }
    if good { Ok(ExitCode::SUCCESS) } else { Err(ExitCode::FAILURE) }
}

fn explain(config: &Config, text: &str) -> bool {
    let Ok(address) = text.parse::<IpAddr>() else {
        say(&format!("{text} error not a single IPv4 or IPv6 address"));
        return false;
    };
    for (number, listener) in config.settings.listeners.iter().enumerate() {
        let verdict = listener.acl.explain(PeerIp::new(address));
        let answer = if verdict.allowed { "allow" } else { "deny" };
        let reason = reason(config, number, verdict.rule);
        say(&format!("{text} {answer} {}{reason}", place(number, listener)));
    }
    true
}

/// The listener that a line is about. The line of `[listen]` has no prefix, as without other listeners.
fn place(number: usize, listener: &ListenerSettings) -> String {
    if number == 0 {
        return String::new();
    }
    let proxied = if listener.proxy_protocol { ", behind a listed proxy" } else { "" };
    format!("listener '{}' (port {}{proxied}): ", listener.name, listener.listen.port)
}

fn reason(config: &Config, number: usize, rule: AccessRule<'_>) -> String {
    let setting = |key: &str| config.listener_setting(number, key);
    match rule {
        AccessRule::Allow(entry) => {
            let (key, origin) = setting("allow_from");
            format!("matches {key} entry {entry} only ({origin})")
        }
        AccessRule::Deny(entry) => {
            let (key, origin) = setting("deny_from");
            format!("matches {key} entry {entry} only ({origin})")
        }
        AccessRule::PolicyOfBoth { allow, deny, policy } => {
            let (_, origin) = setting("policy");
            format!("matches both ({allow}, {deny}), policy {policy} ({origin})")
        }
        AccessRule::PolicyOfNeither(policy) => {
            let (_, origin) = setting("policy");
            format!("matches neither list, policy {policy} ({origin})")
        }
    }
}
