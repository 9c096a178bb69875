//! Explains entries that are several, or carry more than an address: the probable meaning.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net, ip_mask_to_prefix};

use super::{AddressError, parse_entry};

const SEPARATORS: &[char] = &[';', '|'];
const OPERATORS: &[char] = &['/', '-', '+'];
/// Includes the quotes that word processors and web pages make of straight ones.
const QUOTES: &[char] = &['"', '\'', '`', '“', '”', '„', '‘', '’', '«', '»'];

/// A better error than that of the first part that cannot be read.
pub(super) fn explain(entry: &str) -> Option<AddressError> {
    let text = || entry.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts: Vec<_> = entry
        .split(|c: char| c.is_whitespace() || SEPARATORS.contains(&c))
        .map(|part| part.trim_matches(QUOTES))
        .filter(|part| !part.is_empty())
        .collect();
    if let Some(at) = parts.iter().position(|part| part.starts_with('#')) {
        let before = parts.get(..at).unwrap_or_default().join(",");
        return Some(AddressError::Comment { entry: text(), before });
    }
    match parts.as_slice() {
        [only] if entry.trim_matches(SEPARATORS) == *only && is_entry(only) => {
            Some(AddressError::Separator { entry: text(), commas: Some((*only).to_owned()) })
        }
        [only] if *only != entry && is_entry(only) => {
            Some(AddressError::Quotes { entry: text(), without: (*only).to_owned() })
        }
        [address, mask] if let Some(network) = with_netmask(address, mask) => {
            Some(AddressError::Netmask { entry: text(), suggestion: Some(network.to_string()) })
        }
        // Blanks around an operator, as in `10.0.0.0 / 8`.
        parts if parts.iter().any(|part| part.starts_with(OPERATORS) || part.ends_with(OPERATORS)) => None,
        [first, rest @ ..] if is_entry(first) && rest.iter().any(|part| is_entry(part)) => {
            let all_good = rest.iter().all(|part| is_entry(part));
            Some(AddressError::Separator { entry: text(), commas: all_good.then(|| parts.join(",")) })
        }
        _ => None,
    }
}

fn is_entry(text: &str) -> bool {
    parse_entry(text).is_ok()
}

/// `10.0.0.0 255.0.0.0`.
fn with_netmask(address: &str, mask: &str) -> Option<IpNet> {
    let address: Ipv4Addr = address.parse().ok()?;
    let prefix = ip_mask_to_prefix(mask.parse().ok()?).ok().filter(|prefix| *prefix > 0)?;
    Ipv4Net::new(address, prefix).ok().map(|net| net.trunc().into())
}
