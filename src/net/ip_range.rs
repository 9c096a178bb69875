//! Address lists of the settings files: everything that Perl's `Net::IP` reads, except for its silent misreadings.
//!
//! An entry is a single address, a network (`10/8`), a range (`a-b`) or an offset (`a + n`). These habits of
//! `Net::IP` are kept: missing IPv4 octets are zero, an octet with leading zeros is decimal, at most seven colons
//! make an IPv6 address. `Net::IP` silently turns an entry such as `10.0.0.0/8x` into another one; nodegate rejects
//! it. Names are never resolved.

mod mistakes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses from `first` to `last`, both included, of one family, exactly as written: `::ffff:10.0.0.1`
/// stays IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// Every IPv4 address, `0/0`.
    const ALL_V4: AddressRange =
        AddressRange { first: IpAddr::V4(Ipv4Addr::UNSPECIFIED), last: IpAddr::V4(Ipv4Addr::BROADCAST) };
    /// Every IPv6 address, `::/0`.
    const ALL_V6: AddressRange = AddressRange {
        first: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        last: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
    };

    /// The lowest address.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// The highest address.
    pub fn last(self) -> IpAddr {
        self.last
    }

    /// Whether `address` is in the range, of the same family and without any conversion.
    pub fn contains(self, address: IpAddr) -> bool {
        // IpAddr orders every IPv4 address before every IPv6 one, so a range never holds the other family.
        (self.first..=self.last).contains(&address)
    }

    /// The range as a connection shows it: wholly inside `::ffff:0:0/96` it becomes the IPv4 range, otherwise it
    /// stays.
    #[must_use]
    pub fn canonical(self) -> AddressRange {
        match (self.first.to_canonical(), self.last.to_canonical()) {
            (first @ IpAddr::V4(_), last @ IpAddr::V4(_)) => AddressRange { first, last },
            (IpAddr::V4(_) | IpAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => self,
        }
    }
}

/// Why nodegate rejects an entry of an address list. Names the entry and, if possible, the correction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("'{entry}'{} is not an IPv4 or IPv6 address (names are not looked up)", other_part(.entry, .part))]
    NotAnAddress { entry: String, part: String },
    #[error("'{entry}': address lists have no zones; write {without}")]
    Zone { entry: String, without: String },
    #[error("'{entry}': an IPv6 address has at most seven colons; write {shorter}")]
    Colons { entry: String, shorter: Ipv6Addr },
    #[error("'{entry}': the prefix length must be 0 to {longest}{}", instead(.suggestion.as_ref()))]
    PrefixLength { entry: String, longest: u8, suggestion: Option<String> },
    #[error("'{entry}': a netmask is not supported{}", instead(.suggestion.as_ref()))]
    Netmask { entry: String, suggestion: Option<String> },
    #[error("'{entry}': the address has bits set behind the prefix; write {network}")]
    HostBits { entry: String, network: IpNet },
    #[error("'{entry}': blanks are not allowed around '/'; write {without}")]
    Blanks { entry: String, without: String },
    #[error("'{entry}': a range goes from one address to another, not to or from a network; write {range}")]
    NetworkInRange { entry: String, range: String },
    #[error("'{entry}': the range mixes IPv4 and IPv6")]
    MixedFamilies { entry: String },
    #[error("'{entry}': the range ends before it starts; write {forwards}")]
    Backwards { entry: String, forwards: String },
    #[error("'{entry}': an offset is a number with blanks around the plus; write {spaced}")]
    Offset { entry: String, spaced: String },
    #[error("'{entry}': goes beyond the last address of its family")]
    BeyondTheEnd { entry: String },
    #[error("'{entry}': separate entries with commas{}", instead(.commas.as_ref()))]
    Separator { entry: String, commas: Option<String> },
    #[error("'{entry}': an entry has no quotes of its own; write {without}")]
    Quotes { entry: String, without: String },
    #[error("'{entry}': a comment belongs behind the closing quote; write {before}")]
    Comment { entry: String, before: String },
}

/// Names the part only if it is not the whole entry.
fn other_part(entry: &str, part: &str) -> String {
    if part == entry { String::new() } else { format!(": '{part}'") }
}

fn instead(suggestion: Option<&String>) -> String {
    suggestion.map(|text| format!("; write {text}")).unwrap_or_default()
}

/// Reads a comma-separated list: the text and the ranges of every good entry, and the error of every bad one. White
/// space around commas and empty entries are ignored.
pub fn parse_list(text: &str) -> (Vec<(String, Vec<AddressRange>)>, Vec<AddressError>) {
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match parse_entry(entry) {
            Ok(ranges) => entries.push((entry.to_owned(), ranges)),
            Err(error) => errors.push(mistakes::explain(entry).unwrap_or(error)),
        }
    }
    (entries, errors)
}

/// Reads one entry. `all` gives two ranges (`0/0` and `::/0`), every other entry gives one.
pub fn parse_entry(text: &str) -> Result<Vec<AddressRange>, AddressError> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(vec![AddressRange::ALL_V4, AddressRange::ALL_V6]);
    }
    let entry = RangeEntry(text);
    let range = if let Some((first, last)) = text.split_once('-').filter(|(first, _)| !first.ends_with('/')) {
        entry.range(first.trim_end(), last.trim_start())
    } else if let Some((address, prefix)) = text.split_once('/') {
        entry.network(address, prefix)
    } else if let Some((first, offset)) = text.split_once('+') {
        entry.offset(first, offset)
    } else {
        entry.address(text).map(|address| AddressRange { first: address, last: address })
    };
    Ok(vec![range?])
}

/// The whole text of an entry, for the errors of its parts.
struct RangeEntry<'a>(&'a str);

impl RangeEntry<'_> {
    fn text(&self) -> String {
        self.0.to_owned()
    }

    fn network(&self, address: &str, prefix: &str) -> Result<AddressRange, AddressError> {
        if self.0.contains(char::is_whitespace) {
            let without = self.0.split_whitespace().collect();
            return Err(AddressError::Blanks { entry: self.text(), without });
        }
        let first = self.address(address)?;
        let length = Some(prefix).filter(|prefix| is_decimal(prefix)).and_then(|prefix| prefix.parse().ok());
        let net = length.and_then(|length| IpNet::new(first, length).ok());
        let net = net.ok_or_else(|| self.bad_prefix(first, prefix))?;
        if net.network() != first {
            return Err(AddressError::HostBits { entry: self.text(), network: net.trunc() });
        }
        Ok(AddressRange { first, last: net.broadcast() })
    }

    fn bad_prefix(&self, address: IpAddr, prefix: &str) -> AddressError {
        let network = |length| IpNet::new(address, length).ok().map(|net| net.trunc().to_string());
        if prefix.contains(['.', ':']) {
            let length = prefix.parse().ok().and_then(|mask| ipnet::ip_mask_to_prefix(mask).ok());
            return AddressError::Netmask { entry: self.text(), suggestion: length.and_then(network) };
        }
        let digits: String =
            prefix.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        AddressError::PrefixLength {
            entry: self.text(),
            longest: if address.is_ipv4() { 32 } else { 128 },
            suggestion: digits.parse().ok().and_then(network),
        }
    }

    fn range(&self, first: &str, last: &str) -> Result<AddressRange, AddressError> {
        let [start, end] =
            [first, last].map(|side| side.split_once('/').map_or(side, |(address, _prefix)| address));
        let range = AddressRange { first: self.address(start)?, last: self.address(end)? };
        if self.0.contains('/') {
            return Err(AddressError::NetworkInRange { entry: self.text(), range: format!("{start}-{end}") });
        }
        if range.first.is_ipv4() != range.last.is_ipv4() {
            return Err(AddressError::MixedFamilies { entry: self.text() });
        }
        if range.first > range.last {
            let forwards = same_network(range.first, last).unwrap_or_else(|| format!("{last}-{first}"));
            return Err(AddressError::Backwards { entry: self.text(), forwards });
        }
        Ok(range)
    }

    fn offset(&self, first: &str, offset: &str) -> Result<AddressRange, AddressError> {
        let (address, count) = (first.trim_end(), offset.trim_start());
        let start = self.address(address)?;
        let spaced = address.len() < first.len() && count.len() < offset.len();
        if !spaced || !is_decimal(count) {
            let digits: String = count.chars().take_while(char::is_ascii_digit).collect();
            return Err(AddressError::Offset { entry: self.text(), spaced: format!("{address} + {digits}") });
        }
        let last = count.parse().ok().and_then(|count| address_after(start, count));
        let last = last.ok_or_else(|| AddressError::BeyondTheEnd { entry: self.text() })?;
        Ok(AddressRange { first: start, last })
    }

    fn address(&self, text: &str) -> Result<IpAddr, AddressError> {
        if !text.contains(':') {
            return ipv4(text).map(IpAddr::V4).ok_or_else(|| self.not_an_address(text));
        }
        if let Some((without, _zone)) = text.split_once('%') {
            return Err(AddressError::Zone { entry: self.text(), without: without.to_owned() });
        }
        let address = ipv6(text).ok_or_else(|| self.not_an_address(text))?;
        if text.matches(':').count() > 7 {
            return Err(AddressError::Colons { entry: self.text(), shorter: address });
        }
        Ok(IpAddr::V6(address))
    }

    fn not_an_address(&self, part: &str) -> AddressError {
        AddressError::NotAnAddress { entry: self.text(), part: part.to_owned() }
    }
}

fn address_after(start: IpAddr, count: u128) -> Option<IpAddr> {
    match start {
        IpAddr::V4(start) => start
            .to_bits()
            .checked_add(u32::try_from(count).ok()?)
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(start) => start.to_bits().checked_add(count).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

/// The probable meaning of `10.0.0.1-9`, whose end reads as 9.0.0.0: the same network with another last octet.
fn same_network(first: IpAddr, last: &str) -> Option<String> {
    let IpAddr::V4(first) = first else { return None };
    let [a, b, c, d] = first.octets();
    let end: u8 = last.parse().ok().filter(|end| *end >= d)?;
    Some(format!("{first}-{a}.{b}.{c}.{end}"))
}

/// Digits only: Rust's numbers may also start with a plus.
fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// One to four octets of one to three decimal digits; the missing ones are zero.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut places = octets.iter_mut();
    for octet in text.split('.') {
        let octet = Some(octet).filter(|octet| octet.len() <= 3 && is_decimal(octet))?;
        *places.next()? = octet.parse().ok()?;
    }
    Some(Ipv4Addr::from(octets))
}

/// An IPv6 address whose last 32 bits may be written as IPv4, under the rules of [`ipv4`].
fn ipv6(text: &str) -> Option<Ipv6Addr> {
    match text.rsplit_once(':') {
        Some((head, tail)) if tail.contains('.') => {
            let bits = ipv4(tail)?.to_bits();
            format!("{head}:{:x}:{:x}", bits >> 16, bits & 0xffff).parse().ok()
        }
        Some(_) | None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIFICATION: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/net-ip-syntax.tsv"));

    fn one(text: &str) -> AddressRange {
        let ranges = parse_entry(text).unwrap_or_else(|error| panic!("{error}"));
        let [range] = ranges.try_into().unwrap();
        range
    }

    fn refusal(text: &str) -> String {
        parse_entry(text).unwrap_err().to_string()
    }

    #[test]
    fn every_specification_row_matches_perl() {
        let mut rows = 0;
        for row in SPECIFICATION.lines().skip(1) {
            let columns: Vec<&str> = row.split('\t').collect();
            let [entry, first, last, verdict] = columns.try_into().unwrap();
            match verdict {
                "accept" => {
                    let range = one(entry);
                    assert_eq!(range.first(), first.parse::<IpAddr>().unwrap(), "{entry}");
                    assert_eq!(range.last(), last.parse::<IpAddr>().unwrap(), "{entry}");
                }
                "reject" => assert!(refusal(entry).contains(entry)),
                "reject-silent-trap" => {
                    let message = refusal(entry);
                    assert!(message.contains(entry) && message.contains("; write "), "{message}");
                }
                other => panic!("unknown verdict {other}"),
            }
            rows += 1;
        }
        assert!(rows > 300, "{rows}");
    }

    #[test]
    fn beyond_the_table_the_habits_are_the_same() {
        let accepted = [
            ("10-11", "10.0.0.0", "11.0.0.0"),
            ("10.0.0.1 -10.0.0.5", "10.0.0.1", "10.0.0.5"),
            ("10.0.0.1\t+\t05", "10.0.0.1", "10.0.0.6"),
            ("0.0.0.0 + 4294967295", "0.0.0.0", "255.255.255.255"),
            ("::1 + 18446744073709551616", "::1", "::1:0:0:0:1"),
            ("1::3:4:5:6:7:8", "1::3:4:5:6:7:8", "1::3:4:5:6:7:8"),
            ("::ffff:01.2.3.4", "::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("::ffff:10.1", "::ffff:10.1.0.0", "::ffff:10.1.0.0"),
            ("::ffff:10", "::ffff:10", "::ffff:10"),
            ("1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304", "1:2:3:4:5:6:102:304"),
            ("2001:db8::/032", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ];
        for (entry, first, last) in accepted {
            assert_eq!(
                (one(entry).first(), one(entry).last()),
                (first.parse().unwrap(), last.parse().unwrap()),
                "{entry}"
            );
        }
        let refused = [
            "",
            " 10.0.0.1",
            "10.0.0.1 ",
            "10.0.0.1 +5",
            "10.0.0.1+ 5",
            "10.0.0.1 + 5x",
            "10.0.0.1 + -5",
            "10.0.0.1 + ",
            "0.0.0.0 + 4294967296",
            "::1 + 340282366920938463463374607431768211455",
            "1:2:3:4:5:6:7::",
            "0001.2.3.4",
            "10./8",
            "+1.2.3.4",
            "/8",
            "::/",
            "10.0.0.0/+8",
            "1.2.3.4 + +5",
            "10.0.0.0/8 + 1",
            "1/2/3",
            "10/8-",
            "٣.1.1.1",
        ];
        for entry in refused {
            assert!(refusal(entry).contains(&format!("'{entry}'")), "{entry}");
        }
    }

    #[test]
    fn an_error_suggests_a_correction() {
        let hints = [
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("10.0.0.0 / 8", "write 10.0.0.0/8"),
            ("10.0.0.0/-8", "write 10.0.0.0/8"),
            ("10.0.0.0/8x", "write 10.0.0.0/8"),
            ("10.0.0.0/33", "must be 0 to 32"),
            ("192.168.0.0/255.255.0.0", "write 192.168.0.0/16"),
            ("10.0.0.0/8-11.0.0.0", "write 10.0.0.0-11.0.0.0"),
            ("10.0.0.0/8-11.0.0.0/8", "write 10.0.0.0-11.0.0.0"),
            ("1.2.3.4-1.2.3.5/32", "write 1.2.3.4-1.2.3.5"),
            ("10.0.0.5-10.0.0.1", "write 10.0.0.1-10.0.0.5"),
            ("10.0.0.1-10", "write 10.0.0.1-10.0.0.10"),
            ("10.0.0.1+255", "write 10.0.0.1 + 255"),
            ("fe80::1%eth0", "write fe80::1"),
            ("::2:3:4:5:6:7:8", "write 0:2:3:4:5:6:7:8"),
            ("localhost", "names are not looked up"),
        ];
        for (entry, hint) in hints {
            assert!(refusal(entry).contains(hint), "{}", refusal(entry));
        }
    }

    #[test]
    fn entries_without_commas_are_separated_in_hints() {
        let refusal = |text: &str| {
            let (entries, errors) = parse_list(text);
            assert_eq!((entries.len(), errors.len()), (0, 1), "{text}");
            errors[0].to_string()
        };
        let hints = [
            (
                "10.0.0.0/8 192.168.0.0/16",
                "'10.0.0.0/8 192.168.0.0/16': separate entries with commas; write 10.0.0.0/8,192.168.0.0/16",
            ),
            ("10.0.0.0/8;192.168.0.0/16", "separate entries with commas; write 10.0.0.0/8,192.168.0.0/16"),
            (
                "10.0.0.0/8 ; 192.168.0.1 | all;",
                "separate entries with commas; write 10.0.0.0/8,192.168.0.1,all",
            ),
            (
                "10.0.0.1\n\t2001:db8::/32",
                "'10.0.0.1 2001:db8::/32': separate entries with commas; write 10.0.0.1,2001",
            ),
            ("10.0.0.1-10.0.0.5 10.0.1.1-10.0.1.5", "write 10.0.0.1-10.0.0.5,10.0.1.1-10.0.1.5"),
            ("10.0.0.0/8 10.0.0.300 11.0.0.1", "': separate entries with commas"),
            ("\"10.0.0.0/8\" '11.0.0.0/8'", "write 10.0.0.0/8,11.0.0.0/8"),
            ("'10.0.0.0/8'", "an entry has no quotes of its own; write 10.0.0.0/8"),
            ("“10.0.0.0/8”", "an entry has no quotes of its own; write 10.0.0.0/8"),
            ("10.0.0.0/8;", "separate entries with commas; write 10.0.0.0/8"),
            ("192.168.0.0 255.255.0.0", "a netmask is not supported; write 192.168.0.0/16"),
            ("10.0.0.0/8 # office", "a comment belongs behind the closing quote; write 10.0.0.0/8"),
            ("10.0.0.0 / 8", "write 10.0.0.0/8"),
            ("10.0.0.1 +5", "write 10.0.0.1 + 5"),
            ("my host", "names are not looked up"),
        ];
        for (text, hint) in hints {
            assert!(refusal(text).contains(hint), "{text}: {}", refusal(text));
            assert!(!refusal(text).contains(['\n', '\t']), "one line: {text}");
        }
    }

    #[test]
    fn all_means_both_families_in_any_case() {
        for text in ["all", "ALL", "All"] {
            assert_eq!(parse_entry(text).unwrap(), [one("0/0"), one("::/0")]);
        }
    }

    #[test]
    fn lists_skip_blanks_and_report_bad_entries() {
        let (entries, errors) = parse_list(" 10/8 ,,localhost,\tall\n, 1.2.3.4 - 1.2.3.5,300.1,");
        let texts: Vec<&str> = entries.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["10/8", "all", "1.2.3.4 - 1.2.3.5"]);
        assert_eq!(errors.len(), 2);
        assert_eq!(parse_list(" , "), (vec![], vec![]));
    }

    #[test]
    fn only_a_wholly_mapped_range_becomes_ipv4() {
        assert_eq!(one("::ffff:10.0.0.0/104").canonical(), one("10/8"));
        assert_eq!(one("::ffff:0:0/96").canonical(), one("0/0"));
        for unchanged in ["::/0", "::ffff:0:0-::1:0:0:0", "10/8", "::1", "::10.0.0.1"] {
            assert_eq!(one(unchanged).canonical(), one(unchanged), "{unchanged}");
        }
    }
}
