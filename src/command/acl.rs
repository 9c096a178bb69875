//! `nodegate acl PROFILE ADDR…`: one line an address, `ADDR allow|deny REASON`.

use std::io::BufRead as _;
use std::net::IpAddr;
use std::process::ExitCode;

use super::{load, say};
use crate::acl::{AccessList, PeerIp};
use crate::config::Options;

pub fn run(profile: &str, options: &Options, addresses: &[String]) -> ExitCode {
    let config = match load(profile, options) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let access = &config.settings.acl;
    let mut good = true;
    for address in addresses {
        if address == "-" {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                let line = line.trim();
                if !line.is_empty() {
                    good &= explain(access, line);
                }
            }
        } else {
            good &= explain(access, address);
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn explain(access: &AccessList, text: &str) -> bool {
    let Ok(address) = text.parse::<IpAddr>() else {
        say(&format!("{text} error not a single IPv4 or IPv6 address"));
        return false;
    };
    let verdict = access.explain(PeerIp::new(address));
    say(&format!("{text} {} {}", if verdict.allowed { "allow" } else { "deny" }, verdict.reason));
    true
}
