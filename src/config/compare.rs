//! What `nodegate compare` has to know of a product.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareRules {
    /// a target that every user may GET, and nobody else: the credential is tried with it
    pub login: Option<String>,
    /// by `GET PATTERN`, the lists of its answers that are made from hashes and so have no order: `data`, `data[].roles`
    #[serde(default)]
    pub unordered: BTreeMap<String, Vec<String>>,
}
