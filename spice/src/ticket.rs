//! SPICE connect tickets: the signed text that a viewer asks to be connected to.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Digits of a SHA-1 in hex.
const SIGNATURE_DIGITS: usize = 40;
/// Longest DNS name, RFC 1035 section 2.3.4.
const NODE_BYTES: usize = 253;
const HIDDEN: &str = "***";

/// Ticket settings of the profile.
#[derive(Clone, Debug)]
pub struct TicketRules {
    /// First field of every ticket, lower case: viewers send the whole ticket in lower case.
    pub prefix: String,
    /// Where machines listen.
    pub ports: RangeInclusive<u16>,
    /// Seconds; a ticket of this age is too old.
    pub max_age: i64,
    /// Seconds; a ticket this far ahead of the clock is refused.
    pub max_future: i64,
}

/// Where a verified ticket leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Lower case, `[a-z0-9.-]`; look it up without case.
    pub node: String,
    /// 0 is the node's own shell.
    pub vmid: u32,
    pub port: u16,
}

/// Why a ticket was refused; never carries text of the ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    #[error("not a connect ticket")]
    Malformed,
    #[error("wrong signature")]
    Signature,
    #[error("the ticket was signed for another port")]
    OtherPort,
    #[error("the ticket is too old")]
    Expired,
    #[error("the ticket is from the future")]
    Future,
    /// Everything else is valid. The response is a 403; all other errors are a 401.
    #[error("port {0} is not in the allowed range")]
    Port(u16),
}

/// Verifies the CONNECT target `PREFIX:TTTTTTTT:VMID:NODE:PORT::SIG:PORT`, or without the first `PORT` as
/// older nodes sign it.
///
/// `secret` is the base64 text itself, `now` is in Unix seconds. SIG is the SHA-1 of everything before `::`
/// followed by the secret. NODE holds no `:`, so the number of fields tells the two forms apart and a ticket
/// of the new form is never read as an old one with the node `NODE:PORT`.
pub fn verify(target: &str, rules: &TicketRules, secret: &str, now: i64) -> Result<Target, TicketError> {
    let claim = Claim::parse(target, &rules.prefix).ok_or(TicketError::Malformed)?;
    if !signature_matches(claim.signature, claim.signed, secret) {
        return Err(TicketError::Signature);
    }
    if claim.signed_port.is_some_and(|port| port != claim.port) {
        return Err(TicketError::OtherPort);
    }
    let age = now.saturating_sub(claim.time);
    if age >= rules.max_age {
        return Err(TicketError::Expired);
    }
    if age <= rules.max_future.saturating_neg() {
        return Err(TicketError::Future);
    }
    if !rules.ports.contains(&claim.port) {
        return Err(TicketError::Port(claim.port));
    }
    Ok(Target { node: claim.node.to_owned(), vmid: claim.vmid, port: claim.port })
}

/// A CONNECT target for the log: what may be a signature becomes `***`, in malformed targets too.
///
/// Hidden are everything between the first `::` and a port at the end, and every run of 40 hex digits.
pub fn mask(target: &str) -> String {
    let Some((before, after)) = target.split_once("::") else {
        return mask_long_hex(target);
    };
    let mut masked = mask_long_hex(before);
    masked.push_str("::");
    masked.push_str(HIDDEN);
    if let Some((_, port)) = after.rsplit_once(':')
        && number::<u16>(port).is_some()
    {
        masked.push(':');
        masked.push_str(port);
    }
    masked
}

/// The fields of a ticket, well formed but not yet believed.
struct Claim<'a> {
    signed: &'a str,
    signature: &'a str,
    time: i64,
    vmid: u32,
    node: &'a str,
    signed_port: Option<u16>,
    port: u16,
}

impl<'a> Claim<'a> {
    fn parse(target: &'a str, prefix: &str) -> Option<Self> {
        let (signed, tail) = target.split_once("::")?;
        let (signature, port) = tail.split_once(':')?;
        let mut fields = signed.split(':');
        if fields.next()? != prefix || !is_lower_hex(signature, SIGNATURE_DIGITS) {
            return None;
        }
        let time = fields.next().filter(|time| is_lower_hex(time, 8))?;
        let vmid = number(fields.next()?)?;
        let node = fields.next().filter(|node| is_node(node))?;
        let signed_port = match fields.next() {
            Some(port) => Some(number(port)?),
            None => None,
        };
        if fields.next().is_some() {
            return None;
        }
        Some(Self {
            signed,
            signature,
            time: i64::from_str_radix(time, 16).ok()?,
            vmid,
            node,
            signed_port,
            port: number(port)?,
        })
    }
}

fn signature_matches(signature: &str, signed: &str, secret: &str) -> bool {
    let mut sha1 = openssl::sha::Sha1::new();
    sha1.update(signed.as_bytes());
    sha1.update(secret.as_bytes());
    let expected = hex(&sha1.finish());
    // Unequal lengths make memcmp::eq panic.
    expected.len() == signature.len() && openssl::memcmp::eq(expected.as_bytes(), signature.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_node(text: &str) -> bool {
    (1..=NODE_BYTES).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

/// Digits only: `parse` by itself accepts a leading `+`.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn mask_long_hex(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for run in text.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        let digits = run.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        match run.strip_prefix(digits) {
            Some(end) if digits.len() >= SIGNATURE_DIGITS => {
                masked.push_str(HIDDEN);
                masked.push_str(end);
            }
            Some(_) | None => masked.push_str(run),
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/vectors/tickets.tsv"));
    const NOW: i64 = 0x6B02_4400;

    fn rules() -> TicketRules {
        TicketRules { prefix: "pvespiceproxy".to_owned(), ports: 61000..=61999, max_age: 40, max_future: 20 }
    }

    fn rows(kind: &str) -> Vec<&'static str> {
        let rows: Vec<_> = VECTORS
            .lines()
            .filter_map(|line| line.strip_prefix(kind)?.strip_prefix('\t'))
            .map(|rest| rest.rsplit('\t').next().unwrap())
            .collect();
        assert!(!rows.is_empty());
        rows
    }

    fn secret() -> &'static str {
        rows("csrf_secret").first().unwrap()
    }

    fn check(target: &str) -> Result<Target, TicketError> {
        verify(target, &rules(), secret(), NOW)
    }

    fn sign(signed: &str, port: &str) -> String {
        let digest = openssl::sha::sha1(format!("{signed}{}", secret()).as_bytes());
        format!("{signed}::{}:{port}", hex(&digest))
    }

    #[test]
    fn tickets_of_the_original_lead_to_their_machine() {
        let target = |node: &str, vmid, port| Ok(Target { node: node.to_owned(), vmid, port });
        let expected = vec![target("node1", 100, 61000), target("localhost", 101, 61999)];
        for kind in ["spice", "spice_old"] {
            let verdicts: Vec<_> = rows(kind).into_iter().map(check).collect();
            assert_eq!(verdicts, expected, "{kind}");
        }
    }

    #[test]
    fn every_byte_of_the_signature_counts() {
        for ticket in [rows("spice"), rows("spice_old")].concat() {
            let (signed, tail) = ticket.split_once("::").unwrap();
            let (signature, port) = tail.split_once(':').unwrap();
            for index in 0..signature.len() {
                let mut bytes = signature.as_bytes().to_vec();
                let byte = bytes.get_mut(index).unwrap();
                *byte = if *byte == b'0' { b'1' } else { b'0' };
                let forged = String::from_utf8(bytes).unwrap();
                let forged = format!("{signed}::{forged}:{port}");
                assert_eq!(check(&forged), Err(TicketError::Signature), "{index}");
            }
        }
    }

    #[test]
    fn every_signed_field_counts() {
        let ticket = rows("spice").remove(0);
        for (from, to) in [
            (":6b024400:", ":6b024401:"),
            (":100:", ":101:"),
            (":100:", ":0100:"),
            (":node1:", ":node2:"),
            (":61000::", ":61001::"),
            (":node1:61000::", ":node1::"),
            (":node1:", ":"),
        ] {
            let forged = ticket.replacen(from, to, 1);
            assert_ne!(forged, ticket);
            assert_eq!(check(&forged), Err(TicketError::Signature), "{from} {to}");
        }
        let other = verify(ticket, &rules(), "another secret", NOW);
        assert_eq!(other, Err(TicketError::Signature));
        assert_eq!(verify(ticket, &rules(), "", NOW), Err(TicketError::Signature));
    }

    #[test]
    fn new_ticket_never_reads_as_old() {
        // By the old pattern these are a correctly signed node `node1:61000` and so on.
        let signed = |node: &str| format!("pvespiceproxy:6b024400:100:{node}");
        let checked = |node: &str, port: &str| check(&sign(&signed(node), port));
        assert_eq!(checked("node1:61000", "61555"), Err(TicketError::OtherPort));
        for node in ["node1:61000:61001", "node1:x", "node1:+61000", "node1:99999", "node1:", ":61000"] {
            assert_eq!(checked(node, "61000"), Err(TicketError::Malformed), "{node}");
        }
    }

    #[test]
    fn age_has_exclusive_borders() {
        let ticket = rows("spice").remove(0);
        let at = |age: i64| verify(ticket, &rules(), secret(), NOW + age).map(|target| target.port);
        assert_eq!(at(-20), Err(TicketError::Future));
        assert_eq!(at(-19), Ok(61000));
        assert_eq!(at(39), Ok(61000));
        assert_eq!(at(40), Err(TicketError::Expired));
        for now in [i64::MIN, i64::MAX] {
            assert!(verify(ticket, &rules(), secret(), now).is_err());
        }
    }

    /// An expired ticket with a port out of the range is expired, and a forged one is forged.
    #[test]
    fn the_port_range_is_verified_last() {
        let signed =
            |form: &str, port: u16| sign(&form.replace("PORT", &port.to_string()), &port.to_string());
        for form in ["pvespiceproxy:6b024400:100:node1:PORT", "pvespiceproxy:6b024400:100:node1"] {
            for port in [22, 60_999, 61_000, 61_999, 62_000] {
                let ticket = signed(form, port);
                let expected =
                    if rules().ports.contains(&port) { Ok(port) } else { Err(TicketError::Port(port)) };
                assert_eq!(check(&ticket).map(|target| target.port), expected, "{ticket}");
                let late = verify(&ticket, &rules(), secret(), NOW + 40);
                assert_eq!(late, Err(TicketError::Expired), "{ticket}");
                let forged = check(&ticket.replacen(":100:", ":101:", 1));
                assert_eq!(forged, Err(TicketError::Signature), "{ticket}");
            }
        }
    }

    #[test]
    fn vmid_and_node_may_be_anything_legal() {
        for (vmid, node) in [(0, "a"), (u32::MAX, "node-1.example"), (100, "61000")] {
            let ticket = sign(&format!("pvespiceproxy:6b024400:{vmid}:{node}:61000"), "61000");
            let target = check(&ticket).unwrap();
            assert_eq!((target.vmid, target.node.as_str()), (vmid, node));
        }
    }

    #[test]
    fn odd_texts_are_malformed_even_when_signed() {
        let long = "n".repeat(254);
        for signed in [
            "otherproxy:6b024400:100:node1:61000",
            "pvespiceprox:6b024400:100:node1:61000",
            "xpvespiceproxy:6b024400:100:node1:61000",
            "PVESPICEPROXY:6b024400:100:node1:61000",
            ":6b024400:100:node1:61000",
            "pvespiceproxy:6B024400:100:node1:61000",
            "pvespiceproxy:6b02440:100:node1:61000",
            "pvespiceproxy:06b024400:100:node1:61000",
            "pvespiceproxy:+b024400:100:node1:61000",
            "pvespiceproxy:6b02440g:100:node1:61000",
            "pvespiceproxy:6b024400:-1:node1:61000",
            "pvespiceproxy:6b024400:+1:node1:61000",
            "pvespiceproxy:6b024400:4294967296:node1:61000",
            "pvespiceproxy:6b024400::node1:61000",
            "pvespiceproxy:6b024400:100:Node1:61000",
            "pvespiceproxy:6b024400:100:node 1:61000",
            "pvespiceproxy:6b024400:100:nöde:61000",
            "pvespiceproxy:6b024400:100:../x:61000",
            "pvespiceproxy:6b024400:100",
            &format!("pvespiceproxy:6b024400:100:{long}:61000"),
        ] {
            let verdict = check(&sign(signed, "61000"));
            assert_eq!(verdict, Err(TicketError::Malformed), "{signed}");
        }
    }

    #[test]
    fn odd_tails_and_other_texts_are_malformed() {
        let ticket = rows("spice").remove(0);
        let (signed, tail) = ticket.split_once("::").unwrap();
        let (signature, _) = tail.split_once(':').unwrap();
        let upper = signature.to_uppercase();
        let mega = "a:".repeat(1 << 20);
        for target in [
            String::new(),
            ":".to_owned(),
            "::".to_owned(),
            "::::".to_owned(),
            "example.org:443".to_owned(),
            "[::1]:3128".to_owned(),
            "p\u{f6}\u{1f600}::\u{fc}:1".to_owned(),
            ticket.to_uppercase(),
            format!("{signed}::{signature}"),
            format!("{signed}::{signature}:"),
            format!("{signed}::{signature}:61000:"),
            format!("{signed}::{signature}:61000:61000"),
            format!("{signed}::{signature}:+61000"),
            format!("{signed}::{signature}:61000\n"),
            format!("{signed}::{signature}:126536"),
            format!("{signed}:::{signature}:61000"),
            format!("{signed}:{signature}:61000"),
            format!("{signed}::{upper}:61000"),
            format!("{signed}::{signature}0:61000"),
            format!("{signed}:::61000"),
            format!("{signed}::{}\u{f6}\u{f6}:61000", "0".repeat(36)),
            format!("{ticket}{mega}"),
            format!("{mega}{ticket}"),
            mega,
        ] {
            let shown: String = target.chars().take(99).collect();
            assert_eq!(check(&target), Err(TicketError::Malformed), "{shown}");
        }
    }

    #[test]
    fn masking_hides_the_signature_only() {
        let signature = "31a25c4f61e654fd9de024694694f504494cbd3d";
        for (target, masked) in [
            ("p:6b:100:n:61000::SIG:61000", "p:6b:100:n:61000::***:61000"),
            ("p:6b:100:n::SIG:61000", "p:6b:100:n::***:61000"),
            ("p::SIG", "p::***"),
            ("p::SIG:", "p::***"),
            ("p:::SIG", "p::***"),
            ("p::x::SIG", "p::***"),
            ("p::SIG:y:1", "p::***:1"),
            ("::SIG:99999", "::***"),
            ("p:6b:n:SIG:61000", "p:6b:n:***:61000"),
            ("p%3A%3ASIG%3A1", "p%3A%***%3A1"),
            ("SIGSIG", "***"),
            ("/öSIGö", "/ö***ö"),
            ("example.org:443", "example.org:443"),
            ("", ""),
        ] {
            assert_eq!(mask(&target.replace("SIG", signature)), masked, "{target}");
        }
    }
}
