//! Decisions checked against values that the originals' own libraries made.

mod csrf;
mod routes;
mod ticket;

use nodegate::testing::config::AuthRules;
use nodegate::testing::config::RootDirectory;
use nodegate::testing::config::{Config, ConfigSources};

/// `[product.auth]` of a built-in profile.
fn gate_rules(profile: &str) -> AuthRules {
    let options = ConfigSources { root: RootDirectory::new("/".into()), sets: Vec::new() };
    Config::load(profile, &options).unwrap().product.auth.unwrap()
}
