//! Rules of a product for `nodegate compare`.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CompareRules {
    /// a target that requires a login: `compare` tests the credential with it
    pub login: Option<String>,
    /// for each `GET PATTERN` the lists of its answer that have no order, because the original makes them from hashes:
    /// `data`, `data[].roles`
    #[serde(default)]
    pub unordered: BTreeMap<String, Vec<String>>,
}
