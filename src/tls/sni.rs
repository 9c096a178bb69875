//! Selects the certificates that a client is offered by SNI (RFC 6066 section 3): the exact name, otherwise a
//! wildcard, otherwise the profile's own. A set has one certificate for each kind of key; the handshake selects the
//! one that the client supports.

use std::collections::HashMap;

use openssl::pkey::Id;

/// The names and the kind of key of a certificate.
pub(super) struct SniCandidate {
    /// in lower case; a leading `*.` stands for one label
    pub(super) names: Vec<String>,
    pub(super) kind: Id,
}

/// Sets of certificates, as indexes into the list of all, and the set for each name.
#[derive(Debug)]
pub(super) struct SniResolver {
    /// the first set is for unknown names and clients without SNI
    pub(super) sets: Vec<Vec<usize>>,
    exact: HashMap<String, usize>,
    wildcard: HashMap<String, usize>,
}

impl SniResolver {
    /// The first candidate is the profile's own.
    pub(super) fn new(candidates: &[SniCandidate]) -> Self {
        let mut selection =
            Self { sets: vec![own_set(candidates)], exact: HashMap::new(), wildcard: HashMap::new() };
        for name in candidates.iter().flat_map(|candidate| &candidate.names) {
            let set = one_of_each_kind(candidates, |candidate| candidate.names.contains(name));
            let place = selection.index_of(set);
            match name.strip_prefix("*.") {
                Some(rest) => selection.wildcard.insert(rest.to_owned(), place),
                None => selection.exact.insert(name.clone(), place),
            };
        }
        selection
    }

    /// The index of the set for `name`; 0 if no name matches.
    pub(super) fn find(&self, name: &str) -> usize {
        let name = name.to_ascii_lowercase();
        let wildcard = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(&name).or_else(wildcard).copied().unwrap_or_default()
    }

    /// Whether any set has the certificate.
    pub(super) fn holds(&self, place: usize) -> bool {
        self.sets.iter().any(|set| set.contains(&place))
    }

    fn index_of(&mut self, set: Vec<usize>) -> usize {
        if let Some(place) = self.sets.iter().position(|known| *known == set) {
            return place;
        }
        self.sets.push(set);
        self.sets.len() - 1
    }
}

/// The profile's own, and those with other kinds of keys that cover all of its names.
fn own_set(candidates: &[SniCandidate]) -> Vec<usize> {
    let own: &[String] = candidates.first().map_or(&[], |own| &own.names);
    if own.is_empty() {
        return vec![0];
    }
    one_of_each_kind(candidates, |candidate| own.iter().all(|name| candidate.names.contains(name)))
}

fn one_of_each_kind(candidates: &[SniCandidate], fits: impl Fn(&SniCandidate) -> bool) -> Vec<usize> {
    let mut kinds = Vec::new();
    let mut set = Vec::new();
    for (place, candidate) in candidates.iter().enumerate() {
        if fits(candidate) && !kinds.contains(&candidate.kind) {
            kinds.push(candidate.kind);
            set.push(place);
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(kind: Id, names: &[&str]) -> SniCandidate {
        SniCandidate { names: names.iter().map(ToString::to_string).collect(), kind }
    }

    #[test]
    fn exact_names_precede_wildcards_and_the_default() {
        let selection = SniResolver::new(&[
            candidate(Id::RSA, &["node1.example.com"]),
            candidate(Id::EC, &["*.example.com"]),
            candidate(Id::RSA, &["public.example.com", "example.org"]),
            candidate(Id::EC, &["public.example.com"]),
            candidate(Id::EC, &["node1.example.com"]),
            candidate(Id::RSA, &["public.example.com"]),
        ]);
        let cases: [(&str, &[usize]); 8] = [
            ("node1.example.com", &[0, 4]),
            ("PUBLIC.example.com", &[2, 3]),
            ("example.org", &[2]),
            ("other.example.com", &[1]),
            ("two.labels.example.com", &[0, 4]),
            ("example.com", &[0, 4]),
            ("elsewhere", &[0, 4]),
            ("", &[0, 4]),
        ];
        for (name, set) in cases {
            assert_eq!(selection.sets.get(selection.find(name)).map(Vec::as_slice), Some(set), "{name}");
        }
        assert!(!selection.holds(5), "others have its name and its kind of key");
    }

    #[test]
    fn a_certificate_without_names_has_its_own_set() {
        let selection = SniResolver::new(&[candidate(Id::RSA, &[]), candidate(Id::EC, &["a.example.com"])]);
        assert_eq!(selection.sets, [vec![0], vec![1]]);
    }
}
