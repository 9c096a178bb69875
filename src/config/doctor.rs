//! Facts about a product for `nodegate doctor`: the versions that the profile was made from, and its own commands.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Facts and commands for the findings of `nodegate doctor`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct DoctorRules {
    /// the packages that the route table and the lists of files were made from, each with its version
    pub packages: BTreeMap<String, String>,
    /// starts the daemon again
    pub restart_daemon: Option<String>,
    /// makes a node's certificate and publishes it to the other nodes
    pub renew_certificate: Option<String>,
    /// starts the service again that writes the cluster's files
    pub restart_cluster: Option<String>,
}
