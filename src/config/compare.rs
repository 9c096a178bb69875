//! Rules of a product for `nodegate compare`.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareRules {
    /// a target that only users may GET: `compare` tries the credential with it
    pub login: Option<String>,
    /// by `GET PATTERN`, the lists of its answers that are made from hashes and so have no order: `data`, `data[].roles`
    #[serde(default)]
    pub unordered: BTreeMap<String, Vec<String>>,
}
